"""Exercises of the notebooks: ``check("3.2", my_function)``, ``hint("3.2")``, ``reveal("3.2")``.

To add one, write into ``chapter_NN.py`` beside this file a plain ``solution`` function, one or more checks, and an
``Exercise`` in that module's ``EXERCISES``; it is found from there. A check calls the answer on small inputs and
returns a sentence naming what is wrong, or None; ``compare`` finds that sentence in most cases:

    def median(values):
        return sorted(values)[len(values) // 2]

    def of_three(answer):
        return compare(answer([5, 1, 3]), 3, "the median of 5, 1, 3")

    EXERCISES = (
        Exercise(id="9.1", title="The median", hint="Sort first.", solution=median, checks=(of_three,)),
    )

Planted wrong answers, which the tests want for every exercise, are in ``ci/tests/wrong_answers``.
"""

from dlrm_lib.exercises.mechanism import check, hint, reveal

__all__ = ["check", "hint", "reveal"]
