"""The engines of inference, one a file, and what they share.

descent     the safeguards that make any step rule safe; `fused` hands its steps to compiled code
learned     learned steps under those safeguards
encoders    the networks of one-shot inference
"""
