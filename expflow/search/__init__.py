"""Architecture search: spaces of choices, and the searchers that learn in them.

They search children (``{layers: …}``, ``{cell: …}``) and any other listed keys of a recipe alike. Like all searchers
they draw from a generator of their own, and are told results in the ledger's order: after a kill a fresh one that is
fed with the ledger has the same weights, population or neighbours, and proposes the same next children.
"""
