"""What a person reads of a run: the HTML page and the model's card.

In come the files of reports/; out goes HTML and Markdown.
"""
