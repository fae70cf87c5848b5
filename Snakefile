# The graph: which notebook makes which artefact, per experiment and split. `make reproduce` calls it; by hand:
#   snakemake --profile profiles/local --config profile=cpu splits=0
# A unit of work is one line of papermill. The executed notebook is a log: kept when the run fails. Artefacts are
# outputs: removed when it fails. Training resumes from the checkpoints that lib.train keeps beside them.
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir)))
from lib.base import folders, provenance
from lib.study import config as settings
from lib.study import rows as study_rows
from lib.study import schema
from lib.tables import claims_variants, evidence
from workflow import graph

PROFILE = config.get("profile", "cpu")
LOADED = settings.load(PROFILE)
SPLITS = settings.split_numbers(config.get("splits", 0), LOADED.patients.n_splits)
EXPERIMENTS = settings.EXPERIMENTS
AGENTS = ("dsl", "dsl_two_channel")
CLAIM = config.get("claim", "")  # `rule claim` alone looks at it
PAIRS = max(LOADED.patients.spine, LOADED.patients.heart) - LOADED.patients.n_test  # that a training holds in memory
GPU = min(settings.gpus(config.get("gpu", 0)), 1)  # 1: trainings ask for a GPU of the profile in profiles/
RESULTS = os.path.relpath(folders.results_root())
RUNS = f"{RESULTS}/runs/{PROFILE}"
SUMMARY = os.path.relpath(settings.results_dir(PROFILE))
RUN = f"{RUNS}/{{experiment}}/split{{split}}"
# Variants for the claims and the open points (configs/studies/variants.yaml): one experiment and split.
VARIANTS = LOADED.variants
VARIED = VARIANTS.agent
RUN0 = f"{RUNS}/{VARIANTS.experiment}/split0"
# Real scans: all that are on this machine, two that the package index holds among them. Agents of split 0.
REAL = graph.real_dataset(PROFILE)
MANIFESTS = sorted(str(path) for path in Path("data_manifests").glob("*.yaml"))  # of every scan: file, marks, levels

# One thread a process: two trainings side by side are the fastest use of two cores. The three malloc settings
# keep freed memory in the process, which saves a third of a training step (page faults).
shell.prefix(
    "export OMP_NUM_THREADS=1 MPLBACKEND=agg MATPLOTLIBRC=\"$PWD/matplotlibrc\" PYTHONPATH=\"$PWD\" MALLOC_MMAP_MAX_=0 "
    "MALLOC_TRIM_THRESHOLD_=4000000000 MALLOC_TOP_PAD_=200000000; "
)
# The notebook reads the profile by its name; `-f configs/cpu.yaml` does the same, but writes every section of it into the
# executed notebook.
EXECUTE = (
    "python -m workflow.alone --unit {log.notebook:q} papermill -k python3 --no-progress-bar {input.notebook} "
    "{log.notebook:q} -r profile {PROFILE} "
    "{params.words} > {log.text:q} 2>&1 || {{ python -m workflow.reason {log.text:q}; exit 1; }}"
)

# On a cluster these run where make runs: they fetch, or take seconds.
localrules:
    reproduce,
    claims,
    transfer,
    scans,
    claim,


wildcard_constraints:
    experiment="|".join(EXPERIMENTS),
    split=r"\d+",
    agent="|".join(AGENTS),
    variant="|".join(VARIANTS.known),
    study=r"\w+",


def made_of(name):
    """Inputs that every unit has: its notebook, the lib files that it imports, the profile."""
    notebook = f"notebooks/{name}.ipynb"
    found = os.path.exists(notebook)
    # The profile is ancient: not its date but the sections that the notebook uses decide (see `used`).
    return dict(
        notebook=notebook,
        lib=graph.lib_files(Path(notebook)) if found else [],
        config=ancient(f"configs/{PROFILE}.yaml"),
    )


def used(name):
    """Fingerprint of the settings that the notebook uses; Snakemake runs it again when this changes."""
    notebook = Path(f"notebooks/{name}.ipynb")
    if not notebook.exists():
        return ""
    values = LOADED.as_dict()
    return provenance.fingerprint({key: values[key] for key in graph.sections(notebook)})


def varied(wildcards):
    """Fingerprint of what a variant changes and of its budget."""
    budget = (VARIANTS.samples, VARIANTS.fine_samples)
    return provenance.fingerprint([VARIANTS.known[wildcards.variant], budget, used("03_agent_training")])


def lender(wildcards):
    """The variant whose networks this one walks with."""
    return VARIANTS.known[wildcards.variant].networks or wildcards.variant


def networks(name):
    """What stands when a variant's networks are trained."""
    return f"{RUN0}/variants/{name}/agents/{VARIED}_coarse.safetensors.provenance.json"


def unit(name, where):
    """Where a unit's executed notebook and its text go."""
    return dict(notebook=f"{where}/{name}.ipynb", text=f"{where}/{name}.log")


def memory(base, images=0, mm=1.0, width=4):
    """MB of a unit: what its notebook takes in profile cpu, in a job of its own (docs/scaling.md), and images of a patient,
    CT with CBCT (75 million mm³), on a grid of `mm`, `width` bytes a voxel."""
    return base + int(75 * images * width / mm**3)


# The rules of the verdicts: whatever `python -m lib claims write` is made of, asked of the code and not listed by hand.
RULES = ("lib/tables/", "lib/figures/claims", "lib/metrics", "lib/cases.")
RULES += ("lib/study/course.", "lib/study/rows.", "lib/study/planar/curves.")
VERDICTS = graph.files_behind("lib/tables/verdicts.py", rooms=RULES)
# And the rows of studies that they rest on, as far as there are any.
STUDIED = [str(study_rows.path_of(SUMMARY, study)) for study in dict.fromkeys(evidence.ASKED + evidence.SEEDED)]
STUDIED = [path for path in STUDIED if os.path.exists(path)]


# Agents on real scans that they never saw (notebook 07). A population is the scans that training patients grew from.
POPULATIONS = {"spine": ("without_0", "without_1"), "heart": ("reproduce",)}


rule transfer:
    input:
        f"{RUNS}/studies/real_scans.done",
        [f"{RUNS}/{e}/transfer/{name}/07_real_scans.done" for e in EXPERIMENTS for name in POPULATIONS[e]],
    shell:
        "python -m lib tables write --profile {PROFILE}"


# One study: `snakemake results/runs/cpu/studies/NAME.done`. The agents of real_scans are the notebooks' units; here its
# optimisers run, once for all agents: they start from the same poses, and the searches take an hour.
def kept_to(wildcards):
    """The methods that this unit runs; empty: all of the study."""
    if wildcards.study != "real_scans":
        return ""
    found = schema.load("real_scans")
    asked = [m for block in found.cases for m in block.methods or found.methods if not m.trained()]
    return "--only " + " ".join(dict.fromkeys(m.method for m in asked))


rule study:
    input:
        f"{RUNS}/scans.done",
        study="configs/studies/{study}.yaml",
        lib=graph.files_behind("lib/study/run.py", rooms=("lib/",)),
    output:
        touch(f"{RUNS}/studies/{{study}}.done"),
    log:
        f"{RUNS}/studies/{{study}}.log",
    params:
        only=kept_to,
        settings=used("07_real_scans"),
    resources:
        mem_mb=7000,
        gpu=GPU,
        runtime=7200,
    shell:
        "python -m lib study {wildcards.study} {params.only} --profile {PROFILE} > {log:q} 2>&1 "
        "|| {{ python -m workflow.reason {log:q}; exit 1; }}"


rule real_scans:
    input:
        f"{RUNS}/{{experiment}}/split0/patients.csv",
        f"{RUNS}/studies/real_scans.done",  # after it, so that the simulated scans are made once
        # The population `reproduce` is the agent of split 0.
        lambda w: f"{RUNS}/{w.experiment}/split0/agents/dsl_two_channel_coarse.safetensors.provenance.json"
        if w.population == "reproduce"
        else [],
        **made_of("07_real_scans"),
    output:
        touch(f"{RUNS}/{{experiment}}/transfer/{{population}}/07_real_scans.done"),
    log:
        **unit("07_real_scans", f"{RUNS}/{{experiment}}/transfer/{{population}}"),
    params:
        words="-r experiment {experiment} -r population {population}",
        settings=used("07_real_scans"),
    resources:
        mem_mb=7000,
        gpu=GPU,
        runtime=7200,
    shell:
        EXECUTE


rule patients:
    input:
        **made_of("01_data_preparation"),
    output:
        f"{RUNS}/{{experiment}}/split0/patients.csv",
    log:
        **unit("01_data_preparation", f"{RUNS}/{{experiment}}/split0"),
    params:
        words="-r experiment {experiment}",
        settings=used("01_data_preparation"),
    threads: min(workflow.cores, 16)  # one patient a core
    priority: 20  # first of all: they take every core, and would wait for one long unit later
    resources:
        mem_mb=lambda wildcards, threads: memory(1500 + 700 * threads, 32 * threads, LOADED.patients.spacing),
        runtime=240,
    shell:
        EXECUTE


rule stream:
    input:
        rules.patients.output,
        **made_of("02_augmentation"),
    output:
        touch(f"{RUNS}/{{experiment}}/split0/02_augmentation.done"),  # pictures only
    log:
        **unit("02_augmentation", f"{RUNS}/{{experiment}}/split0"),
    params:
        words="-r experiment {experiment}",
        settings=used("02_augmentation"),
    resources:
        mem_mb=memory(2000, 2 * PAIRS, LOADED.stream.fine_source, 1),
        runtime=30,
    shell:
        EXECUTE


rule train:
    input:
        rules.patients.output,
        **made_of("03_agent_training"),
    # Written last, when every network of the agent stands. The networks themselves are no outputs: Snakemake would
    # remove a finished coarse network when the fine one fails, and lib.train never leaves a half-written file.
    output:
        f"{RUN}/agents/{{agent}}_coarse.safetensors.provenance.json",
    log:
        **unit("03_agent_training_{agent}", RUN),
    params:
        words="-r experiment {experiment} -p split {split} -r agent_name {agent}",
        settings=used("03_agent_training"),
    priority: 10  # then the longest units
    resources:
        mem_mb=memory(2000, 2 * PAIRS, LOADED.stream.fine_source, 1),
        gpu=GPU,
        runtime=7200,
    shell:
        EXECUTE


rule roll_out:
    input:
        rules.patients.output,
        expand(rules.train.output[0], agent=AGENTS, allow_missing=True),
        **made_of("04_saliency_attention"),
    output:
        expand(f"{RUN}/cases_{{agent}}.csv", agent=AGENTS, allow_missing=True),
        expand(f"{RUN}/trajectories_{{agent}}.npz", agent=AGENTS, allow_missing=True),
    log:
        **unit("04_saliency_attention", RUN),
    params:
        words="-r experiment {experiment} -p split {split}",
        settings=used("04_saliency_attention"),
    resources:
        mem_mb=memory(2500, 2 * LOADED.patients.n_test, LOADED.patients.spacing),
        gpu=GPU,
        runtime=240,
    shell:
        EXECUTE


rule baselines:
    input:
        rules.patients.output,
        # `dsl_polish` starts where the agents end.
        rules.roll_out.output if "dsl_polish" in LOADED.baselines.methods else [],
        **made_of("05_baselines"),
    # Snakemake removes outputs before it runs a unit again: rows of methods that are complete would go with them. The
    # ground truth's are written anew each time, at once.
    output:
        f"{RUN}/cases_ground_truth.csv",
    log:
        **unit("05_baselines", RUN),
    params:
        words="-r experiment {experiment} -p split {split}",
        settings=used("05_baselines"),
    resources:
        mem_mb=memory(3500, 2 * LOADED.patients.n_test, LOADED.patients.spacing),
        runtime=480,
    shell:
        EXECUTE


rule scans:
    input:
        MANIFESTS,
    output:
        touch(f"{RUNS}/scans.done"),
    log:
        f"{RUNS}/scans.log",
    params:
        fetch=" && ".join(f"python -m lib data {scan}" for scan in graph.fetched(PROFILE)),
    shell:
        "({params.fetch}) > {log:q} 2>&1 || {{ python -m workflow.reason {log:q}; exit 1; }}"


rule real_roll_out:
    input:
        rules.scans.output,
        expand(f"{RUNS}/{{experiment}}/split0/agents/{{agent}}_coarse.safetensors.provenance.json", agent=AGENTS, allow_missing=True),
        **made_of("04_saliency_attention"),
    output:
        expand(f"{RUNS}/{{experiment}}/split0/{REAL}/cases_{{agent}}.csv", agent=AGENTS, allow_missing=True),
    log:
        **unit("04_saliency_attention", f"{RUNS}/{{experiment}}/split0/{REAL}"),
    params:
        settings=used("04_saliency_attention"),
    resources:
        mem_mb=4000,
        gpu=GPU,
        runtime=240,
    shell:
        EXECUTE.replace("{params.words}", "-r experiment {wildcards.experiment} -p split 0 -r dataset " + REAL)


rule real_baselines:
    input:
        rules.real_roll_out.output,  # after it, so that the simulated scans are made once
        **made_of("05_baselines"),
    output:
        f"{RUNS}/{{experiment}}/split0/{REAL}/cases_ground_truth.csv",
    log:
        **unit("05_baselines", f"{RUNS}/{{experiment}}/split0/{REAL}"),
    params:
        settings=used("05_baselines"),
    resources:
        mem_mb=5000,
        runtime=480,
    shell:
        EXECUTE.replace("{params.words}", "-r experiment {wildcards.experiment} -p split 0 -r dataset " + REAL)


rule summary:
    input:
        expand(rules.real_roll_out.output, experiment=EXPERIMENTS),
        expand(rules.real_baselines.output, experiment=EXPERIMENTS),
        expand(rules.roll_out.output, experiment=EXPERIMENTS, split=SPLITS),
        expand(rules.baselines.output, experiment=EXPERIMENTS, split=SPLITS),
        # What people did by hand, as far as they have.
        lambda w: [p for p in expand(f"{RUN}/cases_human.csv", experiment=EXPERIMENTS, split=SPLITS) if os.path.exists(p)],
        **made_of("06_table1"),
    output:
        f"{SUMMARY}/cases.csv",
        f"{SUMMARY}/table1.csv",
    log:
        **unit("06_table1", RUNS),
    params:
        words="",
        settings=used("06_table1"),
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        EXECUTE


# What the claims are worth so far; `make claims` runs the same notebook again when all that is behind them is there.
rule claims_so_far:
    input:
        rules.summary.output,
        VERDICTS,
        STUDIED,
        **made_of("08_claims"),
    output:
        touch(f"{RUNS}/08_claims.done"),
    log:
        **unit("08_claims", RUNS),
    params:
        words="",
        settings=used("08_claims"),
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        EXECUTE


# The targets name every unit and not the last tables alone. Snakemake makes again what its target lacks; of what lies
# behind a file that is there it asks only whether it is newer, and a run that was killed while it made something anew would
# end with the old tables.
def every(*made, **names):
    """All files of some rules."""
    return [path for output in made for path in expand(output, **names)]


rule reproduce:
    input:
        rules.summary.output,
        rules.claims_so_far.output,
        rules.scans.output,
        every(rules.patients.output, rules.stream.output, experiment=EXPERIMENTS),
        every(rules.real_roll_out.output, rules.real_baselines.output, experiment=EXPERIMENTS),
        every(rules.train.output, experiment=EXPERIMENTS, split=SPLITS, agent=AGENTS),
        every(rules.roll_out.output, rules.baselines.output, experiment=EXPERIMENTS, split=SPLITS),
    default_target: True


rule variant_train:
    input:
        f"{RUNS}/{VARIANTS.experiment}/split0/patients.csv",
        # Boosting looks for failures of the reference.
        lambda w: [networks("reference")] if VARIANTS.known[w.variant].boost else [],
        **made_of("03_agent_training"),
    output:
        networks("{variant}"),
    log:
        **unit("03_agent_training", f"{RUN0}/variants/{{variant}}"),
    params:
        words=f"-r experiment {VARIANTS.experiment} -r agent_name {VARIED} -r variant {{variant}}",
        settings=varied,
    resources:
        mem_mb=memory(2000, 2 * PAIRS, LOADED.stream.fine_source, 1),
        gpu=GPU,
        runtime=1440,
    shell:
        EXECUTE


rule variant_walk:
    input:
        lambda w: networks(lender(w)),
        **made_of("04_saliency_attention"),
    output:
        f"{RUN0}/variants/{{variant}}/cases_{VARIED}_{{variant}}.csv",
    log:
        **unit("04_saliency_attention", f"{RUN0}/variants/{{variant}}"),
    params:
        words=f"-r experiment {VARIANTS.experiment} -r variant {{variant}} -y 'agents: [{VARIED}]'",
        settings=varied,
    resources:
        mem_mb=memory(2500, 2 * LOADED.patients.n_test, LOADED.patients.spacing),
        gpu=GPU,
        runtime=240,
    shell:
        EXECUTE


rule drl:
    input:
        f"{RUNS}/spine/split0/patients.csv",
        **made_of("09_dsl_versus_drl"),
    output:
        f"{RUNS}/spine/split0/fig4.csv",
    log:
        **unit("09_dsl_versus_drl", f"{RUNS}/spine/split0"),
    params:
        words="-r experiment spine",
        settings=used("09_dsl_versus_drl"),
    threads: max(1, min(workflow.cores, LOADED.drl.workers))  # so many trainings side by side
    resources:
        mem_mb=6000,
        gpu=GPU,
        runtime=2880,
    shell:
        EXECUTE


rule theory:
    input:
        **made_of("10_theory"),
    output:
        f"{RUNS}/spine/split0/theory.json",
    log:
        **unit("10_theory", f"{RUNS}/spine/split0"),
    params:
        words="",
        settings=used("10_theory"),
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        EXECUTE


def behind(claim):
    """The units behind one claim."""
    if claim in claims_variants.BEHIND:
        names = claims_variants.BEHIND[claim]
        walked = expand(rules.variant_walk.output, variant=names)
        return walked + [networks(VARIANTS.known[name].networks or name) for name in names]
    return {"C6": rules.drl.output, "C7": rules.theory.output, "C14": []}.get(claim, rules.reproduce.input)


rule claim:
    input:
        behind(CLAIM),
        VERDICTS,
        STUDIED,
    output:
        touch(f"{RUNS}/claim_{CLAIM}.done"),
    shell:
        "python -m lib claims write {PROFILE}"


rule verdicts:
    input:
        rules.reproduce.input,
        rules.drl.output,
        rules.theory.output,
        expand(rules.variant_walk.output, variant=VARIANTS.known),
        VERDICTS,
        STUDIED,
        **made_of("08_claims"),
    output:
        touch(f"{RUNS}/claims.done"),  # claims.csv itself stands already, without what is above
    log:
        **unit("08_claims", RUNS),
    params:
        words="",
        settings=used("08_claims"),
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        EXECUTE


rule claims:
    input:
        rules.verdicts.output,
        rules.verdicts.input,
        [networks(name) for name in VARIANTS.known if not VARIANTS.known[name].networks],
