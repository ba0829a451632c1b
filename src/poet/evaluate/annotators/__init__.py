"""Who judges: each module's ``KIND`` of annotator. Importing them loads no model's library."""

from poet.evaluate.records import records

KINDS = records(__name__, __path__, "KIND")
