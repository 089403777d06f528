# trajstore: `make demo` runs the main job, `make test` the tests; each sets up what it needs.
PYTHON ?= python3
PIP = .venv/bin/pip install --disable-pip-version-check -q -c constraints.txt

.PHONY: help demo demo-quick test test-fast test-all lint format reference docs picture examples bench bench-quick bench-scale bench-scoring bench-page browser page page-packages screenshots notebook clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) -e .
	@touch $@

.venv/.dev: .venv/.installed
	$(PIP) -e '.[dev,bench]'
	@touch $@

demo: .venv/.installed  ## train a tiny suite, score it, write demo/report.html (under 5 minutes)
	.venv/bin/trajstore demo demo

demo-quick: .venv/.installed  ## the same with one model and fewer steps (under 2 minutes)
	.venv/bin/trajstore demo demo-quick --quick

page:  ## build the page of trajstore serve from trajstore/server/page into trajstore/server/static (needs node and npm)
	cd trajstore/server/page && npm ci --no-audit --no-fund && node build.mjs

browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -q && apt-get install -y -q --no-install-recommends chromium chromium-driver; } || \
	  echo "No chromium and chromedriver: the browser tests will be skipped."

page-packages:
	@cd trajstore/server/page && { [ -e node_modules/axe-core ] || { command -v npm >/dev/null && npm ci --no-audit --no-fund --silent; }; } || \
	  echo "No npm packages of the page: the tests that need them will be skipped."

test: .venv/.dev browser page-packages  ## the tests (10 minutes on two cores)
	.venv/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder

# A part of each room of the house.
FAST = $(addprefix tests/, docs/test_docs.py test_sql_headers.py test_text.py test_argument_spelling.py \
  checkpoints/test_revisions.py checkpoints/test_suites.py checkpoints/test_stages.py datasets/test_token_bytes.py \
  forward/test_batching.py forward/test_device.py measures/test_in_pass.py scoring/test_step_order.py \
  scoring/test_time_budget.py importers/test_ingest.py::test_rows_in_any_order importers/test_ingest.py::test_bits_and_doubles \
  store/files/test_dataset_sites.py store/catalog/test_parse_trees.py store/groups/test_groups_frequency.py \
  store/matrix/test_blocks.py store/matrix/test_steps.py store/matrix/test_context_sums.py \
  store/queries/test_schema_reference.py analysis/components/test_projection.py analysis/components/test_lasso.py \
  analysis/statistics/test_enrichment.py pipelines/test_training_progress.py view/test_text_charts.py \
  cli/test_output.py cli/test_cli_trajectory.py cli/test_dataclass_options.py demo/test_demo.py)

test-fast: .venv/.dev  ## some tests of each part of the package, under a minute
	.venv/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder $(FAST)

test-all: .venv/.dev browser  ## the tests, slow ones too
	.venv/bin/pytest -m 'not gpu and not network'

GENERATED = docs/reference/*.md docs/reference/measures/*.md

lint: .venv/.dev  ## ruff, mypy, import contracts, generated docs
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/cog -I docs --check $(GENERATED)

format: .venv/.dev  ## put the code in form
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

reference: .venv/.dev  ## write the generated parts of docs/reference
	.venv/bin/python docs/measure_pages.py
	.venv/bin/cog -I docs -r $(GENERATED)

docs: .venv/.dev  ## build the pages of docs/ as a site in site/, links checked
	.venv/bin/pip install --disable-pip-version-check -q -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build -q

picture: demo  ## draw the README's picture from the demo's store
	.venv/bin/trajstore trajectory repeated_half fresh_half -s demo/store -d repeats --plot docs/images/induction.png

screenshots: demo browser  ## take the pictures of the page in docs/ on the demo's store
	.venv/bin/python docs/screenshots.py demo/store

notebook: .venv/.dev demo  ## open examples/store_to_finding.py, from a store to a finding, on the demo's store
	.venv/bin/marimo edit examples/store_to_finding.py

examples: demo  ## run the examples of README.md and docs/ on the demo's store and write their outputs
	.venv/bin/python docs/run_examples.py demo

bench: .venv/.dev  ## the benchmarks, into benchmarks/RESULTS.md
	.venv/bin/python -m benchmarks.run

bench-quick: .venv/.dev  ## the benchmarks at a smaller size, printed only
	.venv/bin/python -m benchmarks.run --quick

bench-scale: .venv/.dev  ## a store that grows to a billion losses, into benchmarks/RESULTS.md
	.venv/bin/python -m benchmarks.scale

bench-scoring: .venv/.dev  ## the scoring pass beside other ways, into benchmarks/RESULTS.md (minutes)
	.venv/bin/python -m benchmarks.scoring

bench-page: .venv/.dev browser  ## the page over stores of 10⁸ and 10⁹ losses, into benchmarks/RESULTS.md (minutes)
	.venv/bin/python -m benchmarks.serve

clean:  ## remove what was set up and built
	rm -rf .venv trajstore/server/page/node_modules dist build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache site
