"""A marimo notebook from a store to a finding, on the demo's store: `marimo edit examples/store_to_finding.py`.

As a script it runs all cells and shows nothing. The store is that of the environment's TRAJSTORE, or demo/store. What
it adds to the store, a group and a finding called `notebook`, takes the place of the ones that it added before.
"""

import marimo

__generated_with = "0.25.2"

app = marimo.App(width="medium", app_title="From a store to a finding")


@app.cell
def _():
    import os

    import marimo as mo

    import trajstore

    store = trajstore.open(os.environ.get("TRAJSTORE", "demo/store"))
    return mo, store, trajstore


@app.cell
def _(mo):
    mo.md("""
    # From a store to a finding

    A store holds the loss of every token at every checkpoint. This one is made by `make demo`: tiny models, trained on
    text, code, arithmetic and random tokens that repeat. Which losses are there?
    """)
    return


@app.cell
def _(store):
    store
    return


@app.cell
def _(mo):
    mo.md("""
    ## Losses in SQL

    Each loss is a row of the view `losses`. The mean by dataset at the first and at the last step:
    """)
    return


@app.cell
def _(store):
    store.sql("""
        SELECT model, dataset, round(arg_min(mean, step), 2) AS first, round(arg_max(mean, step), 2) AS last
        FROM (SELECT model, dataset, step, avg(loss) AS mean FROM losses GROUP BY ALL)
        GROUP BY ALL ORDER BY ALL
    """).pl()
    return


@app.cell
def _(mo):
    mo.md("""
    ## A group is a view

    Any query that gives `dataset`, `context` and `position` makes one. This group has the tokens of the repeats that
    can be copied: what stood after the same token before stands here again.
    """)
    return


@app.cell
def _(store):
    group = store.groups.add(
        "notebook",
        """-- Tokens of the repeats that induction predicts rightly.
        SELECT dataset, context, position FROM groups.induction_bigram WHERE dataset = 'repeats'""",
        replace=True,
    ).name
    store.sql("SELECT count(*) AS tokens, count(DISTINCT context) AS contexts FROM groups.notebook").pl()
    return (group,)


@app.cell
def _(mo):
    mo.md("""
    ## Its loss by step

    Beside that of `fresh_half`, the random tokens that stand in their context for the first time; with 95 % intervals
    over texts. Which models?
    """)
    return


@app.cell
def _(mo, store):
    names = store.sql("SELECT DISTINCT model FROM coverage ORDER BY ALL").pl()["model"].to_list()
    models = mo.ui.multiselect(names, value=names, label="models")
    models
    return (models,)


@app.cell
def _(group, mo, models, store):
    mo.stop(not models.value, "Choose a model.")
    curves = store.trajectory(group, "fresh_half", datasets="repeats", models=models.value)
    curves
    return (curves,)


@app.cell
def _(curves):
    curves.plot()
    return


@app.cell
def _(mo):
    mo.md("""
    When did it fall most? A named query says it of any group; `trajstore query list` shows the others.
    """)
    return


@app.cell
def _(group, store):
    store.query("biggest_jumps", group=group, datasets="repeats", top=1).pl()
    return


@app.cell
def _(mo):
    mo.md("""
    ## Principal components

    Checkpoints of the chosen models are the rows, all tokens of the repeats the columns.
    """)
    return


@app.cell
def _(mo, models, store, trajstore):
    mo.stop(not models.value)
    components = trajstore.pca(store, trajstore.Selection("repeats", models.value))
    components
    return (components,)


@app.cell
def _(components):
    components.plot()
    return


@app.cell
def _(mo):
    mo.md("""
    ## A finding

    Kept in the store, the components are tables in SQL as well, for plain DuckDB too. Which of them is the group's?
    `share` is how much of a component's squared loadings the group has, `expected` how much it would have if they were
    spread evenly over all tokens.
    """)
    return


@app.cell
def _(components, group, store):
    finding = components.keep("notebook", replace=True)
    store.query("component_groups", finding=finding, group=group).pl()
    return (finding,)


@app.cell
def _(finding, store):
    store.sql("FROM pca_components WHERE finding = $finding ORDER BY component", {"finding": finding}).pl()
    return


@app.cell
def _(mo):
    mo.md("""
    ## The page

    The same store, to move through with the mouse, for as long as this notebook runs:
    """)
    return


@app.cell
def _(store):
    store.page()
    return


if __name__ == "__main__":
    app.run()
