# Entry points. `make up` and `make test` need only git, make and a Rust toolchain; scripts/setup installs the rest.

PROFILE ?= default
SUITES ?= foundation data
BINARY := $(or $(CARGO_TARGET_DIR),target)/release/devenv

.PHONY: up down test test-fast test-clients accept check sbom bench fuzz build dist test-install reference pictures help

help:             ## List the targets
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 18

build:            ## Build the release binary
	@scripts/setup build
	cargo build --release --quiet

dist:             ## Make what a release publishes, in dist/: a static program, packages, checksums
	@scripts/setup build
	scripts/dist

test-install:     ## Install in each way that there is, and try what was installed (after `make dist`: its packages too)
	@scripts/setup build
	scripts/test-install

up: build         ## Set up engine and images, start PROFILE (default), and wait until it is ready
	@scripts/setup engine
	@scripts/setup images $$($(BINARY) config --images $(PROFILE))
	$(BINARY) up $(PROFILE)

down: build       ## Stop PROFILE and keep its data
	$(BINARY) down

test:             ## Run all tests, with and without a container engine
	@scripts/setup build
	@scripts/setup engine
	@scripts/setup images --all
	@scripts/setup tests
	cargo test --workspace --quiet --features docker-tests --lib --bins --test it
	cargo test --workspace --quiet --features docker-tests --test docker
	@# The tests above have built the program. `cargo build` would build its dependencies again, with fewer features.
	DEVENV=$(or $(CARGO_TARGET_DIR),target)/debug/devenv python3 -m unittest discover --start-directory tests/ui
	DEVENV=$(or $(CARGO_TARGET_DIR),target)/debug/devenv $$(scripts/setup interface) -m unittest discover --start-directory tests/interface
	python3 -m unittest discover --start-directory clients/python/tests

test-fast:        ## Run the tests that need no container engine
	@scripts/setup build
	cargo test --workspace --quiet --lib --bins --test it

test-clients:     ## Build the packages for Python and Node, and test them in empty projects with real servers
	@scripts/setup build
	@scripts/setup engine
	@scripts/setup images --all
	cargo build --quiet --workspace --features docker-tests --bin devenv
	DEVENV=$(abspath $(or $(CARGO_TARGET_DIR),target))/debug/devenv $$(scripts/setup clients) -m unittest discover --verbose --start-directory clients/tests

accept: build     ## Run the acceptance tests of the machine interface, if they are next to the checkout
	@scripts/setup engine
	@scripts/setup tests
	@scripts/setup images --all
	python3 ../shared/accept/accept.py --binary $(BINARY) $(SUITES)

check:            ## Check formatting, lints, and the licences, duplicates, sources and advisories of dependencies
	@scripts/setup build
	cargo fmt --all --check
	rustfmt --edition 2024 --check crates/kinds/src/*/mod.rs # declared by a macro, which cargo fmt does not see through
	cargo clippy --workspace --all-targets --features docker-tests --quiet -- -D warnings
	scripts/supply-chain check
	$$(scripts/setup tool tsc) --project ui

sbom:             ## Write a CycloneDX bill of materials to target/sbom.json
	@mkdir -p target
	scripts/supply-chain sbom > target/sbom.json

reference:        ## Generate the schema, the reference, and the types of the packages for Python and Node
	UPDATE=1 cargo test --quiet --lib --package devenv-profile --package devenv -- the_reference the_published_schema

pictures:         ## Take the pictures of the page, in docs/pictures
	@scripts/setup tests
	python3 tests/ui/pictures.py

bench: build      ## Run the benchmarks, compared with the alternatives, and write docs/figures.md
	@scripts/setup engine
	@scripts/setup images --all
	python3 benches/figures.py --binary $(BINARY)

fuzz:             ## Fuzz each target for a minute on the nightly toolchain (FUZZ_SECONDS=60 FUZZ_TARGETS="…")
	@scripts/setup build
	scripts/fuzz $(FUZZ_TARGETS)
