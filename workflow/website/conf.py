"""Sphinx's settings for the site; `workflow.website.build` calls Sphinx with them."""

project = "An artificial agent for robust image registration"
html_title = "An artificial agent for robust image registration"
language = "en"
extensions = ["myst_nb", "workflow.website.mathml"]

nb_execution_mode = "off"  # the site shows what ran; it runs nothing
nb_merge_streams = True
nb_ipywidgets_js = {}  # it would be loaded from elsewhere
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
nb_render_markdown_format = "gfm"  # tables in outputs
myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 4  # links to headings, as the repository's web view makes them

html_theme = "sphinx_book_theme"
html_theme_options = {
    "home_page_in_toc": True,
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "navigation_with_keys": False,
    "navbar_persistent": [],
    "logo": {"text": "An artificial agent, rebuilt"},
}
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["look.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
