# The verbs of working on patina; people and CI use the same ones. `make` lists them.

CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/patina
# Compiled Rust dependencies outlive a build here.
export CARGO_TARGET_DIR ?= $(CACHE)/target
# The package as built from this folder goes to a library of its own: `make install` is for yours.
LIBRARY := $(CURDIR)/.build/library
with_library := R_LIBS="$(LIBRARY)$(if $(R_LIBS),:$(R_LIBS))"
export PATH := $(HOME)/.cargo/bin:$(PATH)

# Real data for the tests, the demonstration and the README, if they lie beside this folder.
export PATINA_DATA ?= $(abspath $(wildcard ../shared/data))

manifest := src/rust/Cargo.toml
sources := DESCRIPTION NAMESPACE configure $(shell find R exec inst src -type f \
	-not -path '*/target/*' -not -name '*.o' -not -name '*.so' -not -name 'Makevars' 2>/dev/null)

.PHONY: help setup build install demo test test-rust test-r accept lint format document readme check tarball test-offline crates bench clean

help: ## list the verbs
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

setup: ## install what is missing (Debian, as root), or say what is
	@tools/setup.sh

build: setup .build/installed ## compile and install into .build/library

.build/installed: $(sources)
	@mkdir -p $(LIBRARY)
	R CMD INSTALL --no-test-load --library=$(LIBRARY) .
	@touch $@

install: setup ## install into your own R library
	R CMD INSTALL .

demo: build ## test the genes of a real tissue; writes demo/results.csv and demo/top_genes.png
	@$(with_library) Rscript tools/demo.R

test: build ## all tests, Rust and R, with a summary line for each
	@$(with_library) tools/test.sh cargo testthat crates

test-rust: setup ## cargo test
	@tools/test.sh cargo

test-r: build ## testthat
	@$(with_library) tools/test.sh testthat

accept: ## take the new snapshots that the last test-r left; FILES="input plots" for some only
	Rscript -e 'testthat::snapshot_accept($(if $(FILES),strsplit("$(FILES)", " ")[[1]]), "tests/testthat")'

# Debug assertions and overflow checks are those of the test profile; two minutes a target, from a seed of the day.
fuzz: export PATINA_FUZZ_SECONDS ?= 120
fuzz: export PATINA_FUZZ_SEED ?= $(shell date +%Y%m%d00000000)
fuzz: setup ## random input to every border of the core, for minutes
	cargo test --manifest-path $(manifest) --package patina-core --test fuzz -- --nocapture --test-threads 2

lint: build ## formatting of Rust and R, clippy, lintr
	@$(with_library) tools/test.sh rustfmt clippy air lintr

format: ## format Rust and R in place
	cargo fmt --all --manifest-path $(manifest)
	"$$(tools/setup.sh air)" format .

document: build ## help pages, NAMESPACE and the wrappers of the Rust functions
	$(with_library) Rscript tools/wrappers.R
	@$(MAKE) --no-print-directory build
	$(with_library) Rscript -e 'roxygen2::roxygenise(load_code = "installed")'

readme: build ## README.md and its pictures from README.Rmd
	$(with_library) Rscript -e 'knitr::knit("README.Rmd", quiet = TRUE)'

crates: setup ## LICENSE.note and inst/AUTHORS after a change of Cargo.lock
	Rscript tools/crates.R notes

check: setup ## R CMD check of the built package
	@mkdir -p .build/check
	cd .build/check && rm -f patina_*.tar.gz && R CMD build ../.. && R CMD check --no-manual patina_*.tar.gz

# A copy of what git knows, with the crates beside it; nothing else gets in.
tarball: setup ## a source package that installs without a network: .build/patina_VERSION.tar.gz
	@rm -rf .build/tarball && mkdir -p .build/tarball/patina
	@git ls-files -z | xargs -0 cp --parents -t .build/tarball/patina
	@Rscript tools/crates.R bundle .build/tarball/patina/src/rust/vendor.tar.xz
	cd .build && R CMD build --no-manual $(BUILD_FLAGS) tarball/patina && rm -rf tarball

# No network, no crates in the user's cache, no compiled ones: only the package and R's own library.
test-offline: ## install the newest .build/patina_*.tar.gz with the network off (Linux)
	@rm -rf .build/offline && mkdir -p .build/offline/library .build/offline/cargo
	env -u CARGO_TARGET_DIR CARGO_HOME=$(CURDIR)/.build/offline/cargo unshare --map-root-user --net \
	  R CMD INSTALL --library=.build/offline/library $$(ls -t .build/patina_*.tar.gz | head -n 1)
	R_LIBS=.build/offline/library Rscript -e 'library(patina); stopifnot(nrow(spatial_test(t(1:9 / 9), 1:9, normalization = "none")) == 1)'

bench: build ## benchmarks of the Rust core, of whole calls and of growing tissues (small ones)
	cargo bench --manifest-path $(manifest) --package patina-studies --benches
	$(with_library) Rscript bench/whole_call.R
	$(with_library) Rscript bench/scale.R small .build/bench

clean: ## remove what was built here (not the cache of compiled dependencies)
	rm -rf .build demo src/Makevars src/Makevars.win src/*.o src/*.so src/*.dll src/rust/target src/rust/vendor src/.cargo
