"""Datasets as people bring them, drawn small: what each may come to stands beside how it is made.

`drawing` draws the pictures, `layouts` writes them in the forms of datasets, and each `*_cases` module has a table
`CASES`: name -> (outcome, words, how to write it to a folder). The outcomes are "right", "refused" and "warning".
"""
