"""The questions, and the line that leads to their answers.

pipeline   the data's way on one page: start here
scoring    states of the graph -> scores of the graph
qoe        how good is an application, from where, to where, when
"""
