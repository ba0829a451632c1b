"""What a validated configuration asks for: who takes part, and the files of each; no Snakemake."""
