# Everything that a person does with Ringside, from a fresh clone on. Each target first sees to what it needs: Debian
# packages, the default guest, the program. What is there already is left as it is, so a second call is quick.
#
#   make run     boot the default guest to a shell; ARGS='--memory 1G …' are passed on to `ringside run`
#   make test    the whole test suite
#   make build   the program, at .build/release/ringside
#   make guest   the default guest, in .guests/default
#   make check   format, lint, declared imports, and that the interpreter's chains are loops
#   make fuzz    random guests on the engine, for TIME=60 seconds from SEED on; ARGS='--count 1 --kind differential' too
#   make bench   the benchmark against native code and QEMU; ARGS='--runs 1 --marks sieve,fork' are passed on
#   make startup from the program's start to the guest's first instruction, against QEMU; ARGS='--cpus 2' too
#   make clean   remove all that was made, downloads of guests included

ARGS ?=
SEED ?= 1
TIME ?= 60

.PHONY: run test build guest check fuzz bench startup clean packages
.DEFAULT_GOAL := build

run: build guest
	.build/release/ringside run $(ARGS)

# The tests drive the very program that people run, so it is built first. They are built elsewhere: with tests enabled,
# everything compiles differently, and one folder for both would be recompiled at each change of target.
test: build guest
	for name in i386 i386-pae memtest disks discs devices installer-amd64 installer-i386; do \
	  Scripts/make-guest $$name || exit; \
	done
	Scripts/make-boot-disk devices
	[ "$$(id -u)" != 0 ] || Scripts/make-disk
	swift test -c release --scratch-path .build-test $(ARGS)

build: packages
	swift build -c release --product ringside

guest: packages
	Scripts/make-guest

check: packages
	swift format lint --strict --recursive Sources Tests Fuzz Package.swift
	swift build -c release --explicit-target-dependency-import-check error
	Scripts/check-tail-calls

fuzz: packages
	swift run -c release fuzz --seed $(SEED) --time $(TIME) $(ARGS)

bench: build
	Scripts/install-packages bench
	Scripts/make-guest marks
	Benchmarks/compare $(ARGS)

startup: build
	Scripts/install-packages bench
	Benchmarks/startup $(ARGS)

clean:
	rm -rf .build .build-* .guests

packages:
	@Scripts/install-packages
