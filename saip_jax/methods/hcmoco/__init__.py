"""HCMoCo: contrastive learning across RGB, depth and skeleton."""
