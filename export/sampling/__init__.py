"""How a bundle is sampled: its base's scheduler, its usual sampler, and few steps for a distilled one."""
