"""VSML: a network whose weights are tiny LSTMs that share their meta-parameters."""
