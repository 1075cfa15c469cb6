"""MAE: masked autoencoding."""
