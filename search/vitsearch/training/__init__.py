"""Fine-tuning with distillation."""
