"""Adagrad for some rows of a table, of which ``valid_count_tensor`` says how many count."""

from habana_frameworks.torch.utils.internal import refuse_unless_lazy


def forward(gradients, weights_in, moments_in, indices, learning_rate, valid_count_tensor, /):
    refuse_unless_lazy("SparseAdagrad")
    raise NotImplementedError("the stand-in has no custom operators of embeddings")
