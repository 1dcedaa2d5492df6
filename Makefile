# SPDX-License-Identifier: Apache-2.0
#   make           build build/netsonde, as an ordinary user
#   make deps      install the Debian packages that are missing, through sudo where needed
#   make run       both, then agent and dashboard of this host; make lab: of a demonstration network; ARGS="--help"
#   make test      deps, then every test; SUITES="unit system" for some
#   make bench     the measurements, one program per question
#   make install   honours PREFIX and DESTDIR
#   make clean     remove everything that was built
PREFIX ?= /usr/local
ROOT := $(if $(filter 0,$(shell id -u)),,sudo)

all: build/build.ninja
	@ninja -C build

build/build.ninja:
	meson setup --prefix=$(PREFIX) build

deps:
	@tools/deps build

run lab: deps
	@$(MAKE) --no-print-directory all
	@exec $(ROOT) build/netsonde $@ $(ARGS)

test:
	@tools/deps build test
	@tools/test $(SUITES)

bench:
	@tools/deps build test
	@$(MAKE) --no-print-directory all
	@tools/bench

install: all
	@meson install -C build --no-rebuild

clean:
	@rm -rf build build-clang build-asan

.PHONY: all deps run lab test bench install clean
