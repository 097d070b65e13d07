"""Does a learner keep the contract? One function per promise of `vsml_bench/learner.py`."""
