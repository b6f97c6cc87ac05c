# Every target installs what it needs into .venv by itself; running one again is quick.
PYTHON ?= $(shell python3.11 -c 'print("python3.11")' 2>/dev/null || echo python3)
VENV ?= .venv
GOLDENS ?= $(or $(X2I_GOLDENS),../shared/goldens)
CHROMIUM ?= /usr/lib/chromium
SYSTEMS ?=
BIN := $(VENV)/bin
PARITY := tests/runtime/samplers tests/runtime/token_samplers tests/runtime/inputs tests/runtime/test_segments.py tests/models tests/kernels/test_reference.py \
	tests/export/test_gluegen_text.py tests/export/test_gluegen_sound.py tests/export/test_elite.py tests/export/test_fastcomposer.py \
	tests/export/test_painted_words.py tests/export/cascades tests/export/token_systems tests/export/test_to_onnx.py tests/export/lower/test_elite_half.py
# What the frozen app is installed with; with `FROZEN=desktop,frozen,openvino` it has OpenVINO as well.
FROZEN ?= desktop,frozen
ROOMS := models kernels export runtime emoji

# Keeps the repository root off sys.path: there, kernels/ would pass for a package that transformers and diffusers look for.
export PYTHONSAFEPATH := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo serve desktop frozen judge subjects few-steps pairs painted sounds tokens judge-precision parity full adapter-cost precisions footprint bench bench-full cpu-kernels docs hostile interop webgpu test test-gpu lint typecheck clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1	/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(VENV)/.export ## export the embedded models, verify them, draw with each: demo/contact-sheet.png
	$(BIN)/python -m x2i.emoji.demo

serve: $(VENV)/.export ## a server of the demo's bundles at http://127.0.0.1:8000, page and API
	@test -d demo/bundle-sound || $(BIN)/python -m x2i.emoji.demo
	$(BIN)/x2i serve demo/bundle demo/bundle-fastcomposer demo/bundle-sound demo/bundle-muse demo/bundle-ddcap --measure

desktop: $(VENV)/.desktop demo/bundle ## a desktop app, in Qt, on the first bundle of the demo
	PYTHONPATH=examples $(BIN)/python -P -m desktop demo/bundle

# An environment of its own, without torch, with the wheel: PyInstaller finds nothing of an editable install.
frozen: demo/bundle ## the desktop app as a folder that runs where no Python is, and a check of it: dist/x2i-desktop
	@test -d $(VENV)-frozen || $(PYTHON) -m venv $(VENV)-frozen
	rm -rf build/lib
	$(VENV)-frozen/bin/python -m pip install -c constraints.txt '.[$(FROZEN)]'
	$(VENV)-frozen/bin/pyinstaller --log-level ERROR --noconfirm --name x2i-desktop --paths examples \
		--distpath dist --workpath build/frozen --specpath build/frozen examples/desktop/__main__.py
	$(VENV)-frozen/bin/python -P examples/desktop/check_frozen.py dist/x2i-desktop demo/bundle

# Only the first bundle of the demo: the others take minutes.
demo/bundle: | $(VENV)/.export
	$(BIN)/python -P -c 'from pathlib import Path; from x2i.emoji.embedded import embedded_bundle; \
		embedded_bundle("gluegen-text", Path("demo"), print)'

judge: $(VENV)/.export ## score the embedded model's pictures, per language
	$(BIN)/python -m x2i.emoji.judges.languages

subjects: $(VENV)/.export ## draw subjects the embedded ELITE has never seen, and score them: demo/subjects.png
	$(BIN)/python -m x2i.emoji.judges.subjects

few-steps: $(VENV)/.export ## draw in 4, 2 and 1 steps and by the tiny decoder, and score it all: demo/few-steps.png
	$(BIN)/python -m x2i.emoji.judges.few_steps

pairs: $(VENV)/.export ## draw two unseen subjects at once with the embedded FastComposer, and score them: demo/pairs.png
	$(BIN)/python -m x2i.emoji.judges.pairs

painted: $(VENV)/.export ## draw two things, each painted on its half, with the embedded model, and score them: demo/painted.png
	$(BIN)/python -m x2i.emoji.judges.painted

sounds: $(VENV)/.export ## draw words spoken by unheard voices, and score them: demo/sounds.png
	$(BIN)/python -m x2i.emoji.judges.sounds

tokens: $(VENV)/.export ## draw and caption token by token with the embedded models, and score both: demo/tokens.png
	$(BIN)/python -m x2i.emoji.judges.tokens

judge-precision: $(VENV)/.test ## what fp16, int8 and the rest cost the embedded model's pictures
	$(BIN)/python -m x2i.emoji.judges.precision

adapter-cost: $(VENV)/.export ## what an adapter adds to a step at full size; 12 GB of memory
	PYTHONPATH=bench $(BIN)/python -m full_size.adapter_cost

parity: $(VENV)/.test ## compare with the original implementation's goldens, and print the errors
	X2I_GOLDENS=$(GOLDENS) $(BIN)/python -m pytest -q --parity $(PARITY)

full: $(VENV)/.export ## full-size bundles from random weights into build/full, timed; 12 GB of memory
	PYTHONPATH=bench $(BIN)/python -m full_size.full

precisions: $(VENV)/.test ## full-size Stable Diffusion in every precision on every backend here: a table; 16 GB of memory
	PYTHONPATH=bench $(BIN)/python -m full_size.full_precision

footprint: $(VENV)/.export ## the runtime alone, then with OpenVINO: installed size, import time, cold start: tables
	PYTHONPATH=bench $(BIN)/python -m full_size.footprint
	PYTHONPATH=bench $(BIN)/python -m full_size.footprint --extra openvino

bench: $(VENV)/.test ## x2i beside diffusers, Optimum, OpenVINO GenAI and stable-diffusion.cpp: small model; installs them all
	$(BIN)/python bench

bench-full: $(VENV)/.test ## the same at full size, 256 x 256 and 512 x 512; 40 GB of disk, 16 GB of memory, hours
	$(BIN)/python bench --case sd15-256 --case sd15-512

cpu-kernels: $(VENV)/.test ## the wheel of the compiled kernel for CPUs, Linux on x86-64: dist/
	$(BIN)/python cpu-kernels/build_wheel.py dist

docs: $(VENV)/.export ## docs/api.md, from the docstrings
	$(BIN)/python docs/api.py

# An environment of its own: Optimum's pins are not those of the other tests.
interop: $(VENV)-interop/.interop ## draw the same pictures with Optimum, both ways
	$(VENV)-interop/bin/python -m pytest tests/interop

# An environment of its own, whose one onnxruntime has WebGPU; Chromium brings a Vulkan driver in software.
webgpu: $(VENV)/.export $(VENV)-webgpu/.webgpu ## whole runs of tiny bundles on WebGPU beside the CPU; minutes for each of SYSTEMS
	$(BIN)/python tests/webgpu/bundles.py build/webgpu $(SYSTEMS)
	VK_ICD_FILENAMES=$(CHROMIUM)/vk_swiftshader_icd.json LD_LIBRARY_PATH=$(CHROMIUM) \
	$(VENV)-webgpu/bin/python tests/webgpu/compare.py build/webgpu

hostile: $(VENV)/.test ## thousands of bad inputs at every door: tried, held and failed, by kind; about half an hour
	$(BIN)/python tests/hostile

# No test may download anything.
hostile interop webgpu test test-gpu lint typecheck: export HF_HUB_OFFLINE := 1

# One thread a worker: two workers share two cores. What ruff and mypy say comes when they end, and again below if red.
test: export OMP_NUM_THREADS := 1
test: $(VENV)/.test ## ruff and mypy beside pytest
	@mkdir -p build
	@($(MAKE) --no-print-directory lint typecheck >build/checks.log 2>&1; echo $$? >build/checks.rc) & \
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations=20; tests=$$?; wait; \
	cat build/checks.log; exit $$((tests + $$(cat build/checks.rc)))

test-gpu: $(VENV)/.test ## the kernels, the engine plugin and the backends, on a CUDA device
	$(BIN)/python -m pytest -m gpu tests/kernels tests/runtime/engines/test_engines_gpu.py

lint: $(VENV)/.test ## ruff alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(VENV)/.test ## mypy alone
	@mkdir -p .typing/x2i
	@for room in $(ROOMS); do ln -sfn ../../$$room .typing/x2i/$$room; done
	$(BIN)/mypy

clean: ## remove what the targets made; build/emoji stays, for it holds hours of training
	rm -rf $(VENV) $(VENV)-frozen $(VENV)-interop $(VENV)-webgpu .typing demo dist build/checks.* build/full build/webgpu build/bench build/footprint build/frozen build/test-cache build/lib build/bdist.* *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.export: pyproject.toml emoji/pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -c constraints.txt -e '.[export,server,sound]' -e ./emoji
	@touch $@

$(VENV)/.desktop: $(VENV)/.export pyproject.toml constraints.txt
	$(BIN)/python -m pip install -c constraints.txt -e '.[desktop]'
	@touch $@

$(VENV)/.test: pyproject.toml emoji/pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -c constraints.txt -e '.[test]' -e ./emoji
	@touch $@ $(VENV)/.export $(VENV)/.desktop

# The base's packages but onnxruntime: another has its place.
$(VENV)-webgpu/.webgpu: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-webgpu
	$(VENV)-webgpu/bin/python tests/webgpu/base.py >$(VENV)-webgpu/base.txt
	$(VENV)-webgpu/bin/python -m pip install -c constraints.txt -r $(VENV)-webgpu/base.txt onnxruntime-webgpu==1.27.0
	$(VENV)-webgpu/bin/python -m pip install --no-deps -e .
	@touch $@

$(VENV)-interop/.interop: pyproject.toml tests/interop/constraints.txt
	$(PYTHON) -m venv $(VENV)-interop
	$(VENV)-interop/bin/python -m pip install -c tests/interop/constraints.txt -e '.[export]' 'optimum-onnx[onnxruntime]' pytest
	@touch $@
