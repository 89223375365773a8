"""Published weights in, our `.safetensors` with everything needed to use them, and out again."""
