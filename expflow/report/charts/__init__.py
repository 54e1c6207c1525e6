"""The interactive charts of the page: figures of plotly.js as plain data, one module for each kind.

A chart is data alone. :mod:`expflow.report.page` writes it into the page beside the library that draws it, so that no
text of an experiment ever becomes code or markup.
"""
