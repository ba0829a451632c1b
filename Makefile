# make results: the embedded default, set up and run.   make test: everything that checks the project.
PYTHON ?= python3
CORES ?= all
CONFIG ?=
ARGS ?=
FROM ?=
INTO ?=
MODELS ?=
GAMED ?=
TARGETS ?=
BIN := .venv/bin
# A quoted `~`, and any in dash, is left to us.
override CONFIG := $(if $(filter ~/%,$(firstword $(CONFIG))),$(patsubst ~/%,$(HOME)/%,$(CONFIG)),$(CONFIG))
export CONFIG FROM INTO MODELS GAMED  # recipes read these from the environment: paths may hold spaces and quotes
empty :=
$(if $(CONFIG),$(if $(wildcard $(subst [,\[,$(subst $(empty) $(empty),\ ,$(CONFIG)))),,$(error CONFIG: found no file $(CONFIG); configurations are config.yaml and config/*.yaml)))
# ARGS as it was written: its quotes are the shell's, its dollars are not make's.
SNAKEMAKE = $(BIN)/snakemake --cores $(CORES) --rerun-incomplete $(if $(CONFIG),--configfile "$$CONFIG") $(value ARGS)

# One run per folder. A killed run leaves Snakemake's lock behind; ours dies with its process, so
# holding it tells that Snakemake's is stale. A run killed this moment may take a while to be gone.
# Snakemake keeps the lock's descriptor: it may outlive this shell, until its jobs have ended. They do
# not get it (Python closes it before it starts them): an orphan must not hold the folder.
define run
@command -v flock >/dev/null || { echo "error: flock (util-linux) is needed"; exit 1; }; \
  mkdir -p results || exit 1; exec 9> results/.lock && \
  { flock --timeout 5 9 || { echo "error: another make is running the workflow in this folder"; exit 75; }; } && \
  if ls .snakemake/locks/* >/dev/null 2>&1; then $(SNAKEMAKE) --unlock >/dev/null 2>&1 9>&-; fi; \
  $(1)
endef

# The answer and its cautions, once more, where the eye is when a run ends.
define answer
$(if $(filter -n --dry-run,$(value ARGS)),,@if [ -f results/report/answer.txt ]; then echo; cat results/report/answer.txt; fi)
endef

.PHONY: archive benchmark benchmark-gpu benchmark-half lock plan results diagnose worlds ablation sweep tables report test test-quick lint pins clean-venv cluster vllm

results: .venv/.installed
	$(call run,$(SNAKEMAKE))
	$(answer)

# Does POET suit these pairs? Before any training: make diagnose CONFIG=... ARGS="--config pairs=FILE"
diagnose: .venv/.installed
	$(call run,$(SNAKEMAKE) -- diagnose)

worlds: .venv/.installed
	$(call run,$(SNAKEMAKE) --configfile config/worlds.yaml)
	$(answer)

# Shares of the length, SamPO, D2PO, LD-DPO, and other objectives with and without POET.
ablation: .venv/.installed
	$(call run,$(SNAKEMAKE) --configfile config/ablation.yaml)
	$(answer)

# Beta and learning rate, the same grid for every method.
sweep: .venv/.installed
	$(call run,$(SNAKEMAKE) --configfile config/sweep.yaml -- sweep)

# What a finished run's tables, figures and page are made of: make archive INTO=archive/NAME, with the run's CONFIG and ARGS.
archive: .venv/.installed
	@test -n "$$INTO" || { echo "error: make archive INTO=archive/NAME"; exit 1; }
	@said=$$($(SNAKEMAKE) --dry-run 2>&1) || { echo "$$said" >&2; exit 1; }; \
	case "$$said" in *"Nothing to be done"*) ;; *) \
	  echo "error: results/ is not whole, or older than this configuration or code; the same make results comes first" >&2; exit 1;; esac
	$(call run,$(SNAKEMAKE) -- archive)

# From an archive alone: make tables FROM=folder, laid out like results/. Of the public leaderboard:
# make tables FROM=alpaca_eval/results MODELS="BASELINE MODEL ..." [GAMED=df_gamed.csv]
tables: .venv/.installed
	@test -n "$$FROM" || { echo "error: make tables FROM=folder"; exit 1; }
	@$(if $(MODELS),$(BIN)/python -m poet.report.leaderboard --from "$$FROM" --models $$MODELS --gamed "$$GAMED" --into results \
	  --write-config results/config.yaml,$(BIN)/python -m poet.report.archive --from "$$FROM" --into results \
	  --config config.yaml --write-config results/config.yaml)
	$(call run,POET_ARCHIVED=1 $(SNAKEMAKE) --configfile "$${CONFIG:-results/config.yaml}" --rerun-triggers mtime -- tables)
	$(answer)
	$(if $(filter -n --dry-run,$(value ARGS)),,@$(BIN)/python -m poet.report.checksums "$$FROM")

report: results
	$(call run,$(SNAKEMAKE) --report results/report.html)

# What a configuration takes, before it is run: make plan CONFIG=config/paper.yaml [TARGETS=main]
plan: .venv/.installed
	@folder=$$(mktemp -d) && trap 'rm -r "$$folder"' EXIT && \
	{ POET_PLAN=1 $(SNAKEMAKE) --dry-run --forceall -- $(TARGETS) > "$$folder/all" 2> "$$folder/errors" && \
	  $(SNAKEMAKE) --dry-run -- $(TARGETS) > "$$folder/pending" 2> "$$folder/errors" || \
	  { cat "$$folder"/all "$$folder/errors" >&2; exit 1; }; } && \
	$(BIN)/python -m poet.plan.plan --configfile "$${CONFIG:-config.yaml}" $(value ARGS) \
	  --jobs "$$folder/all" --pending "$$folder/pending"

# What the hub has to deliver, looked up once: `make lock CONFIG=config/paper.yaml`.
lock: .venv/.installed
	$(BIN)/python -m poet.plan.lock $(if $(CONFIG),,$(error name a configuration: make lock CONFIG=FILE))--configfile "$$CONFIG" $(value ARGS)

# Ours and its peers in turns, on an idle machine: 10 minutes each.
benchmark: .venv/.installed
	$(BIN)/python -m benchmarks.compare --shape cpu --output benchmarks/results/cpu.json

benchmark-gpu: .venv/.installed
	$(BIN)/python -m benchmarks.compare --shape 1b --output benchmarks/results/gpu-1b.json
	$(BIN)/python -m benchmarks.compare --shape 8b --output benchmarks/results/gpu-8b.json

# bfloat16 beside float32, on an idle machine whose processor multiplies it.
benchmark-half: .venv/.installed
	$(BIN)/python -m benchmarks.half --output benchmarks/results/half-cpu.json

test: .venv/.installed lint
	$(BIN)/python -m pytest

# Without the tests that run workflows, a browser or a cluster.
test-quick: .venv/.installed lint
	$(BIN)/python -m pytest $(addprefix --ignore=tests/,workflow browser cluster)

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules

# The pinned environment; `pip install -r` again is quick, so an interrupted set-up just resumes.
.venv/.installed: envs/main.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python 3.11 or newer is needed, found " + sys.version.split()[0] + "; try make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --progress-bar on -r envs/main.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# SLURM's executor plugin asks `scontrol` at every start, so it has an environment of its own: that
# of .venv, by its path, and the plugin.
cluster: .venv-cluster/.installed
.venv-cluster/.installed: .venv/.installed envs/cluster.txt
	$(PYTHON) -m venv --without-pip .venv-cluster
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > $$(.venv-cluster/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth
	$(BIN)/python -m pip --python .venv-cluster/bin/python install --quiet -r envs/cluster.txt
	touch $@

# vLLM pins its own torch and transformers; poet.evaluate.vllm_client calls this interpreter.
vllm: .venv-vllm/.installed
.venv-vllm/.installed: envs/vllm.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --upgrade pip
	.venv-vllm/bin/python -m pip install --quiet -r envs/vllm.txt
	touch $@

# Renew the pins: resolve envs/main.in afresh and write down what was installed.
pins:
	rm -rf .venv-pins
	$(PYTHON) -m venv .venv-pins
	.venv-pins/bin/python -m pip install --quiet --upgrade pip
	.venv-pins/bin/python -m pip install --quiet -r envs/main.in
	@{ echo "# Made by make pins from envs/main.in. torch pins its own CUDA packages."; \
	  .venv-pins/bin/python -m pip freeze --all | grep -v -E '^(pip|wheel)==|^(nvidia|triton|cuda)' | sed -E 's/\+[a-z0-9.]+$$//'; \
	} > envs/main.txt
	rm -rf .venv-pins
	$(MAKE) envs/main.yaml

# The same pins for `snakemake --sdm conda`: conda brings Python, pip the rest.
envs/main.yaml: envs/main.txt
	@{ printf '%s\n' "# Made by make pins from envs/main.txt. Not built here." "channels: [conda-forge, nodefaults]" \
	  "dependencies:" "  - python=3.11" "  - pip" "  - git" "  - pip:"; \
	  grep -v '^#' envs/main.txt | sed 's/^/      - /'; } > $@
