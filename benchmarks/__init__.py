"""How fast vsml-bench is: against its peers (`python -m benchmarks.speed`), as sizes grow
(`python -m benchmarks.growth`), and from commit to commit (the asv suite)."""
