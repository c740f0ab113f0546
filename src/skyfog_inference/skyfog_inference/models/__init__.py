"""What a model is: its configuration, tokenizer and weights, as Hugging Face or llama.cpp store them."""
