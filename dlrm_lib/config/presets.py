"""Named configurations: what each sets beside the defaults, and why."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # Seconds on any machine: what continuous integration runs. So few rows are read four times.
    "smoke": {
        "rows": 60_000,
        "days": 4,
        "numeric_rule": "log_x_plus_3",
        "standardise": True,
        "batch_size": None,
        "batch_factor": 1.6,  # batches of 1,024 of its own 45,000 training rows
        "epochs": 4,
        "optimizer": "adam",
        "embedding_epsilon": 2e-4,
        "embedding_decay": 0.5,
        "lr": 0.01,
        "warmup_steps": 0.055,  # 10 of the 176 steps that its own rows take
        "decay_start_step": 0.1,
        "decay_steps": None,
        "execution": "eager",
        "print_freq": 10,
    },
    # Minutes on a laptop: the preset the notebooks are written around. The epsilon is that of a rare row's gradient at
    # this batch size: without it Adam, whose bias correction takes each row for seen at every step, learns such rows by
    # heart, and a second pass makes it worse instead of better. The decay keeps what little they say out of the
    # interaction, the lasso the pairs of columns that say nothing. Validation AUCs, means over seeds: 0.7897 without
    # the decay, 0.7925 with it, 0.7933 with flags and small initial embeddings, 0.7942 with lasso and a fourth pass, all
    # with missing numbers taken for zeros; told apart they are worth 0.012 more.
    # The first pass, a quarter of the training, warms up, and the lasso starts behind it: with a warmup of 100 steps,
    # or a lasso that drops pairs whose embeddings have learned nothing yet, some seeds never find one of the planted
    # pairs, mostly one of a number and a category, and stay 0.003 behind. The decay would end 16 steps after the
    # training. What depends on the number of rows is a share or left open: for its own 875,000 training rows it comes
    # to a frequency limit of 15, batches of 2,048 rows and a warmup of 432 steps. Few rows get what criteo_kaggle has.
    "laptop": {
        "frequency_limit": None,
        "numeric_rule": "log_x_plus_3",
        "standardise": True,
        "flag_missing": True,
        "embed_numbers": None,
        "linear": None,
        "embedding_init": 0.03,
        "batch_size": None,
        "batch_factor": None,
        "epochs": 4,
        "optimizer": "adam",
        "embedding_epsilon": 2e-4,
        "embedding_decay": 1.0,
        "interaction_lasso": 0.1,
        "lasso_start_step": 0.2523,
        "lr": 0.01,
        "warmup_steps": 0.2523,
        "decay_steps": 0.757,
        "decay_power": 3.0,
        "print_freq": 100,
    },
    # Real Kaggle rows of any number. The fewer there are, the less a network finds beyond logistic regression, so that
    # is part of it (linear); embed_numbers lets each number bend as its column needs. Frequency limit, batch and
    # schedule follow from the rows. Chosen on the validation rows of rolling splits of the first 10,001 rows of the
    # training file and of 4,584 rows from all of it, whose test rows were seen too; the batch at 100,000 rows on
    # synthetic ones.
    "criteo_kaggle": {
        "frequency_limit": None,
        "numeric_rule": "log_x_plus_3",
        "standardise": True,
        "flag_missing": True,
        "embed_numbers": True,
        "linear": True,
        "embedding_init": 0.01,
        "batch_size": None,
        "epochs": 3,
        "optimizer": "adam",
        "embedding_epsilon": 2e-4,
        "embedding_decay": 0.5,
        "lr": 0.005,
        "warmup_steps": 0.0473,  # 20 of the 423 steps that 9,001 training rows take
        "decay_steps": None,
        "print_freq": 50,
    },
    # NVIDIA's defaults for Criteo 1TB, and its vocabulary and logarithm rules.
    "criteo_terabyte": {
        "vocabulary_days": "all",
        "numeric_rule": "log_x_plus_3",
        "embedding_dim": 128,
        "bottom_mlp_sizes": (512, 256, 128),
        "top_mlp_sizes": (1024, 1024, 512, 256, 1),
        "batch_size": 32768,
        "lr": 28.0,
        "warmup_steps": 6400,
        "decay_start_step": 64000,
        "decay_steps": 80000,
    },
    # Habana's Medium configuration (HabanaAI/Model-References 4b841ff8, PyTorch/recommendation/dlrm): random rows, to
    # measure speed with. Its fused Adagrad in lazy mode keeps the learning rate it starts with.
    "gaudi_medium": {
        "synthetic_dataset": True,
        "synthetic_dataset_rows": 1_024_000,
        "synthetic_dataset_table_sizes": (3_000_000,),
        "num_numerical_features": 1024,
        "num_indices_per_lookup": 38,
        "embedding_dim": 64,
        "bottom_mlp_sizes": (1024, 1024, 64),
        "top_mlp_sizes": (*(4096,) * 7, 1),
        "interaction_op": "cat",
        "batch_size": 512,
        "test_batch_size": 512,
        "optimizer": "adagrad",
        "lr": 1e-5,
        "warmup_steps": 0,
        "print_freq": 500,
    },
}
