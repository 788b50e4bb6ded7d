# The front door. Each target is a script or one cargo command, so that nothing needs make.
#   make demo         the pair, two servers and a client on this machine, live
#   make test         all tests, with totals
.DEFAULT_GOAL := help
SEEDS ?= 10000
FROM ?= 0
.PHONY: help deps bench-deps build release demo test check sim bench bench-quick matrix bars integrity man vagrant-check install packets fuzz-build clean

SHELL := /bin/sh
export PATH := $(or $(CARGO_HOME),$(or $(HOME),/root)/.cargo)/bin:$(PATH):/usr/local/sbin:/usr/sbin:/sbin
TARGET := $(or $(CARGO_TARGET_DIR),target)
PROFILE ?= dev
PREFIX ?= /usr/local
DESTDIR ?=
# Handed on: make demo ARGS="--help", make bench ARGS="--rounds 9".
ARGS ?=

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

deps: ## install what building, the demo and the tests need (Debian 12)
	@scripts/deps.sh build

bench-deps: ## the same, and the peers, wrk and strace for the benchmarks
	@scripts/deps.sh bench

build: deps ## everything, in the dev profile
	cargo build --workspace --all-targets --locked

release: deps ## target/release/cygnet and cygnet-lab
	cargo build --release --locked -p cygnet -p cygnet-cluster-tests

demo: release ## two balancers share an address, serve, die and take over: live
	CYGNET_BIN=$(abspath $(TARGET))/release/cygnet $(TARGET)/release/cygnet-lab demo $(ARGS)

test: deps ## all tests (PROFILE=release for the other profile, TEST_ARGS=name for some)
	@PROFILE=$(PROFILE) scripts/test.sh

check: deps ## formatting, lints, dependencies, documentation
	@scripts/check.sh

sim: deps ## whole clusters under SEEDS=10000 random seeds, from FROM=0; SEED=4711 runs one and shows it (docs/simulator.md)
	cargo run --locked --quiet --profile $(PROFILE) -p cygnet-ha --features sim --example sim -- \
		$(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --from $(FROM)) $(ARGS)

bench: bench-deps release ## CPU and memory per operation beside HAProxy, nginx and Pen, with bars (docs/benchmarks.md)
	CYGNET_BIN=$(abspath $(TARGET))/release/cygnet $(TARGET)/release/cygnet-bench run $(ARGS)

bench-quick: bench-deps release ## system calls per request, connection and datagram, with limits that fail
	CYGNET_BIN=$(abspath $(TARGET))/release/cygnet $(TARGET)/release/cygnet-bench calls $(ARGS)

matrix: bench-deps release ## each fault on Cygnet, keepalived + HAProxy and ucarp + Pen: docs/failure-matrix.md (hours; ARGS="--runs 3 --rows stopped")
	CYGNET_BIN=$(abspath $(TARGET))/release/cygnet $(TARGET)/release/cygnet-lab matrix --write docs/failure-matrix.md $(ARGS)

bars: bench-deps release ## every published limit, measured: 20 failovers of each kind, calls, CPU (20 minutes)
	@scripts/bars.sh

integrity: release ## 10,000 connections byte by byte, also while servers die, and 200 reloads under load (a few minutes)
	CYGNET_BIN=$(abspath $(TARGET))/release/cygnet CYGNET_CONNECTIONS=10000 CYGNET_RELOADS=200 \
		cargo nextest run --release --locked -p cygnet-cluster-tests --test integrity --test reload --test attack

vagrant-check: release ## the Vagrantfile, and its provisioning in a chroot (root, downloads Debian)
	@scripts/vagrant-check.sh

man: release ## the manual pages, in target/man
	mkdir -p $(TARGET)/man
	$(TARGET)/release/cygnet man $(TARGET)/man

install: release man ## the program, its manual pages and the systemd unit, below $(DESTDIR)$(PREFIX)
	DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) scripts/install.sh

packets: deps ## ten million random packets through each parser of advertisements (a few minutes)
	CYGNET_PACKETS=10000000 cargo test -p cygnet-netlink --test many_packets -- --nocapture

fuzz-build: deps ## the fuzz targets compile
	cargo check --manifest-path fuzz/Cargo.toml --all-targets

clean: ## remove what was built
	cargo clean
