# Targets for people and for .ci/run. ARGS=... is passed on to pytest, and to dashboard.py.
ACTIVATE = . .venv/bin/activate &&
MINUTES = 10
# More than cores: many tests wait rather than work.
WORKERS = 4
ifeq ($(BROKER),qpid)
export BROKER_PRODUCT := qpid
else ifdef BROKER # rabbitmq4
export RABBITMQ_HOME := $(CURDIR)/.$(BROKER)
endif

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/demo $(BROKER) ## Two producers, two validators, a broker (AMQP_URL, or its own) that fails, and the verdict.
	@$(ACTIVATE) if [ -z "$$AMQP_URL" ]; then ./tools/setup.sh broker || exit; fi; exec demos/story.py $(ARGS)

perf: .venv/run $(BROKER) ## How fast is the broker (AMQP_URL, or its own)? ARGS='--size 4096 --prefetch 100', or any flag of the pair.
	@$(ACTIVATE) if [ -z "$$AMQP_URL" ]; then ./tools/setup.sh broker || exit; fi; exec demos/perf.py $(ARGS)

demo-svg: .venv/dev $(BROKER) ## Record make demo anew, as the moving picture of README.md.
	@$(ACTIVATE) ./tools/setup.sh broker && exec python tools/record.py docs/images/demo.svg

dashboard: .venv/page $(BROKER) ## A broker, some traffic, monitor.py, and the page that shows it all, until Ctrl-C.
	@$(ACTIVATE) ./tools/setup.sh broker && exec ./broker.py --management demos/dashboard.sh $(ARGS)

demo-saml: .venv/dev $(BROKER) ## SAML 2.0 assertions, token_server.py, a broker, and what three users may do there.
	@$(ACTIVATE) ./tools/setup.sh broker && ./tools/setup.sh saml && exec demos/saml.sh

shell: .venv/run $(BROKER) ## A shell with a throwaway broker and its management API; the scripts are at hand.
	@$(ACTIVATE) ./tools/setup.sh broker && exec ./broker.py --management demos/shell.sh

test: .venv/dev $(BROKER) ## Every test, on real brokers.
	@$(ACTIVATE) for part in broker pdf saml strangers; do ./tools/setup.sh $$part || exit; done && python -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

pythons: rabbitmq38 rabbitmq43 ## The tests without a broker, and a pair, on the oldest Python and on the newest one of Debian.
	@for home in .rabbitmq38 .rabbitmq43; do ./tools/setup.sh python $$home && RABBITMQ_HOME= \
		$$home/sbin/env $$home/venv/bin/python -m pytest -q -n $(WORKERS) --dist loadgroup tests/unit tests/broker/test_blocks.py $(ARGS) || exit; done

unit: .venv/dev ## The tests that need neither a broker nor a process, in seconds.
	@$(ACTIVATE) python -m pytest -q tests/unit $(ARGS)

rabbitmq4: ## RabbitMQ 4.x beside the one installed, in .rabbitmq4; then: make demo|shell|test|soak BROKER=rabbitmq4.
	@./tools/setup.sh rabbitmq4

rabbitmq38: ## The RabbitMQ of Debian 11 in .rabbitmq38, 3.8; use it like the one above.
	@./tools/setup.sh rabbitmq38

rabbitmq43: ## The RabbitMQ of Debian sid in .rabbitmq43, 4.3 or later, not pinned; use it like the one above.
	@./tools/setup.sh rabbitmq43

qpid: ## Apache Qpid Broker-J, a broker that is no RabbitMQ, in .qpid; then: make demo|test BROKER=qpid.
	@./tools/setup.sh qpid

soak: .venv/run $(BROKER) ## Random faults for MINUTES=10 on a cluster of three nodes, and the verdict.
	@$(ACTIVATE) ./tools/setup.sh broker && exec ./soak.py --minutes $(MINUTES)

fuzz: .venv/dev ## Streams of bytes that our frame parser might read otherwise than pika, for MINUTES=10.
	@$(ACTIVATE) python tools/fuzz.py --minutes $(MINUTES)

lint: .venv/dev ## Check the style, the format and the types.
	@$(ACTIVATE) ruff check . && ruff format --check . && mypy

reference: .venv/dev ## Write docs/reference/flags.md anew, from the parsers of the scripts.
	@$(ACTIVATE) python tools/reference.py

density: ## Count how dense the code is, against the limits of tests/unit/test_layout.py.
	@python3 tools/density.py $(ARGS)

vulnerabilities: .venv/dev ## Ask PyPI for known vulnerabilities in what the requirements bring.
	@$(ACTIVATE) pip install -q --disable-pip-version-check 'pip-audit>=2.7,<3' && \
		for file in requirements.txt requirements/*.txt; do pip-audit --strict --progress-spinner off -r $$file || exit; done

pdf: .venv/pdf ## One PDF of README and docs, with the diagrams drawn: siamese.pdf.
	@$(ACTIVATE) ./tools/setup.sh pdf && python tools/pdf.py siamese.pdf

bench: .venv/dev ## Measure side by side with peers and bare limits, and write bench/RESULTS.md.
	@$(ACTIVATE) ./tools/setup.sh broker && ./tools/setup.sh peers && \
		python bench/blocks.py --write && python bench/perf_peers.py --write && \
		python bench/perf_kinds.py --write && python bench/memory.py --write && \
		python bench/small_scenarios.py --write && python bench/confirm_cost.py --write && \
		python bench/proof.py --write && \
		python bench/database.py --write && python bench/pages.py --write && python bench/alert_latency.py --write

screenshots: .venv/dev ## Take the pictures of README.md and docs/explanation/dashboard.md anew.
	@$(ACTIVATE) ./tools/setup.sh broker && ./tools/setup.sh browser && python tools/screenshots.py

clean: ## Remove what make made (not what apt installed), and all that examples wrote into runs/.
	rm -rf .venv .rabbitmq4 .rabbitmq38 .rabbitmq43 .qpid siamese.pdf docs/.mermaid bench/.peers .hypothesis .pytest_cache .ruff_cache .mypy_cache erl_crash.dump
	find runs -mindepth 1 -maxdepth 1 ! -name .gitignore -exec rm -rf {} +
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/run: requirements.txt tools/setup.sh
	@./tools/setup.sh venv requirements.txt && touch $@

.venv/page: requirements.txt requirements/dashboard.txt requirements/monitor.txt tools/setup.sh
	@./tools/setup.sh venv requirements/dashboard.txt && ./tools/setup.sh venv requirements/monitor.txt && touch $@

.venv/demo: requirements.txt requirements/demo.txt tools/setup.sh
	@./tools/setup.sh venv requirements/demo.txt && touch $@

.venv/pdf: requirements/pdf.txt tools/setup.sh
	@./tools/setup.sh venv requirements/pdf.txt && touch $@

.venv/dev: requirements.txt $(wildcard requirements/*.txt) tools/setup.sh
	@./tools/setup.sh venv requirements/dev.txt && touch $@ .venv/run .venv/page .venv/demo .venv/pdf

.PHONY: help demo perf demo-svg dashboard demo-saml shell test pythons unit rabbitmq4 rabbitmq38 rabbitmq43 qpid soak lint reference density vulnerabilities pdf bench screenshots clean
