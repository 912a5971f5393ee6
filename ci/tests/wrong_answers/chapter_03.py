"""Wrong answers to the exercises of chapter 03, each with a part of the sentence it must get."""

from __future__ import annotations

import torch

from dlrm_lib.exercises.chapter_03 import dot_interaction


def offsets_forgotten(categorical, cardinalities):
    return categorical.long()


def offsets_at_the_ends(categorical, cardinalities):
    return categorical + torch.tensor(cardinalities).cumsum(0)


def offsets_of_the_table_before(categorical, cardinalities):
    return categorical + torch.tensor([0, *cardinalities[:-1]])


def rows_from_one(categorical, cardinalities):
    return categorical + torch.tensor([0, *cardinalities[:-1]]).cumsum(0) + 1


def offsets_in_32_bits(categorical, cardinalities):
    starts = torch.tensor([0, *cardinalities[:-1]]).cumsum(0)
    return (categorical + starts).int()


def products(bottom, rows):
    vectors = torch.cat([bottom.unsqueeze(1), rows], dim=1)
    return vectors @ vectors.transpose(1, 2)


def triangle(bottom, rows, offset=-1, lower=True):
    all_products = products(bottom, rows)
    indices = (torch.tril_indices if lower else torch.triu_indices)(*all_products.shape[1:], offset=offset)
    return all_products[:, indices[0], indices[1]]


def diagonal_included(bottom, rows):
    return torch.cat([bottom, triangle(bottom, rows, offset=0), torch.zeros(len(bottom), 1)], 1)


def whole_matrix(bottom, rows):
    return torch.cat([bottom, products(bottom, rows).flatten(1), torch.zeros(len(bottom), 1)], 1)


def upper_triangle(bottom, rows):
    return torch.cat([bottom, triangle(bottom, rows, 1, lower=False), torch.zeros(len(bottom), 1)], 1)


def no_padding(bottom, rows):
    return dot_interaction(bottom, rows)[:, :-1]


def padding_in_front(bottom, rows):
    return dot_interaction(bottom, rows).roll(1, dims=1)


def padding_of_ones(bottom, rows):
    return torch.cat([dot_interaction(bottom, rows)[:, :-1], torch.ones(len(bottom), 1)], 1)


def products_alone(bottom, rows):
    return torch.cat([triangle(bottom, rows), torch.zeros(len(bottom), 1)], 1)


def embeddings_alone(bottom, rows):
    return torch.cat([bottom, triangle(rows[:, 0], rows[:, 1:]), torch.zeros(len(bottom), 1)], 1)


def adagrad(weight, squares, row_ids, gradient, lr, sign=-1.0, duplicates="sum", keep=True, epsilon=1e-10):
    rows, position = torch.unique(row_ids, return_inverse=True)
    total = torch.zeros(len(rows), gradient.shape[1]).index_add_(0, position, gradient)
    square = total**2
    if duplicates == "mean":
        total = total / torch.bincount(position).unsqueeze(1)
        square = total**2
    if duplicates == "squares":
        square = torch.zeros_like(total).index_add_(0, position, gradient**2)
    seen = squares[rows] + square
    if keep:
        squares[rows] = seen
    weight[rows] += sign * lr * total / (seen.sqrt() + epsilon)
    return weight, squares


def uphill(*arguments):
    return adagrad(*arguments, sign=1.0)


def squares_forgotten(*arguments):
    return adagrad(*arguments, keep=False)


def squares_of_each(*arguments):
    return adagrad(*arguments, duplicates="squares")


def mean_of_duplicates(*arguments):
    return adagrad(*arguments, duplicates="mean")


def last_duplicate_wins(weight, squares, row_ids, gradient, lr):
    squares[row_ids] += gradient**2
    weight[row_ids] -= lr * gradient / (squares[row_ids].sqrt() + 1e-10)
    return weight, squares


def no_root(weight, squares, row_ids, gradient, lr):
    squares[row_ids] += gradient**2
    weight[row_ids] -= lr * gradient / (squares[row_ids] + 1e-10)
    return weight, squares


def weight_alone(*arguments):
    return adagrad(*arguments)[0]


def mean_of_the_bag(weight, ids):
    return torch.cat([weight, torch.zeros(1, weight.shape[1])])[ids].mean(dim=1)


def last_row_fills_up(weight, ids):
    return weight[ids.clamp(max=len(weight) - 1)].sum(dim=1)


def first_row_fills_up(weight, ids):
    return weight[ids % len(weight)].sum(dim=1)


def bags_as_sets(weight, ids):
    present = torch.nn.functional.one_hot(ids, len(weight) + 1).amax(dim=1)[:, :-1]
    return present.float() @ weight


def summed_over_the_batch(weight, ids):
    return torch.cat([weight, torch.zeros(1, weight.shape[1])])[ids].sum(dim=0)


def nothing_fills_up(weight, ids):
    return weight[ids].sum(dim=1)


WRONG = {
    "3.1": (
        (offsets_forgotten, "every column still points into the first table"),
        (offsets_at_the_ends, "where each table ends"),
        (offsets_of_the_table_before, "column 2 begins at row 4 + 3 = 7, got 3"),
        (rows_from_one, "rows count from 0"),
        (offsets_in_32_bits, "overflow 32 bits"),
    ),
    "3.2": (
        (diagonal_included, "your diagonal is included: expected F·(F−1)/2 = 351 columns, got 378"),
        (whole_matrix, "each pair twice: expected F·(F−1)/2 = 351 columns, got 729"),
        (embeddings_alone, "must meet the others too: expected F·(F−1)/2 = 351 columns, got"),
        (upper_triangle, "not in order: expected 1, 2, 5, 7, 6, 9, 17, 11, 0"),
        (no_padding, "the padding column is missing: expected 368 columns, got 367"),
        (padding_in_front, "belongs at the end"),
        (padding_of_ones, "at [0, 8]: expected 0, got 1"),
        (products_alone, "16 values are missing in front of the 351 products"),
    ),
    "3.3": (
        (uphill, "goes uphill"),
        (squares_forgotten, "squares never grow"),
        (squares_of_each, "sum its gradients first, then square the sum"),
        (mean_of_duplicates, "you take their mean"),
        (last_duplicate_wins, "only one of its gradients arrives"),
        (no_root, "the table after update 1, at [0, 0]"),
        (weight_alone, "return two tensors"),
    ),
    "3.4": (
        (mean_of_the_bag, "you take the mean"),
        (last_row_fills_up, "you add the table's last row"),
        (first_row_fills_up, "you add the row of id 0"),
        (bags_as_sets, "its vector counts twice"),
        (summed_over_the_batch, "must have the shape (4, 3), but yours has (3, 3)"),
        (nothing_fills_up, "your function raised IndexError"),
    ),
}
