# The front door. `make up` and `make test` need nothing but git, make and a Rust toolchain: scripts/setup sees to the rest.

PROFILE ?= default
SUITES ?= foundation data
BINARY := $(or $(CARGO_TARGET_DIR),target)/release/devenv

.PHONY: up down test test-fast accept check bench fuzz build reference help

help:             ## What there is to make
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 18

build:            ## The release binary
	@scripts/setup build
	cargo build --release --quiet

up: build         ## Bring up PROFILE (default): engine and images seen to, everything ready
	@scripts/setup engine
	@scripts/setup images $$($(BINARY) config --images $(PROFILE))
	$(BINARY) up $(PROFILE)

down: build       ## Take it down; data is kept
	$(BINARY) down

test:             ## Everything: without an engine, and against real servers in real containers
	@scripts/setup build
	@scripts/setup engine
	@scripts/setup images --all
	@scripts/setup tests
	cargo test --workspace --quiet --features docker-tests --lib --bins --test it
	cargo test --workspace --quiet --features docker-tests --test docker

test-fast:        ## Unit tests and the tests that need no engine
	@scripts/setup build
	cargo test --workspace --quiet --lib --bins --test it

accept: build     ## The acceptance cases of the machine interface, if they are beside the checkout
	@scripts/setup engine
	@scripts/setup tests
	@scripts/setup images --all
	python3 ../shared/accept/accept.py --binary $(BINARY) $(SUITES)

check:            ## Formatting, lints, and that generated files are current
	@scripts/setup build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features docker-tests --quiet -- -D warnings

reference:        ## Rewrite the generated files: schema and reference
	UPDATE=1 cargo test --quiet --lib --package devenv-profile --package devenv -- the_reference the_schema

bench: build      ## Measure the promises, side by side with what a user would pick instead
	@scripts/setup engine
	@scripts/setup images --all
	python3 benches/run.py --binary $(BINARY)

fuzz:             ## Feed the profile loader garbage for a minute (needs cargo-fuzz and a nightly toolchain)
	cargo +nightly fuzz run profile -- -max_total_time=60
