"""The embedded population: drawn and grown anatomies, and cone-beam scans of them. Nothing heavy is imported here."""
