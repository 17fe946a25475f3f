"""Export of models to inference engines, with parity checks and int8 quantization."""
