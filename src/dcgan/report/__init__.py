"""Human-readable descriptions of a run: the HTML report and the model card.

The inputs are the files in reports/. The outputs are HTML and Markdown.
"""
