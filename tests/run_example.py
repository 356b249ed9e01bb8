"""Runs one example with some of its constants changed."""

import ast

import matplotlib.pyplot as plt


def with_constants(source, constants):
    """The source's tree with other values for names that it assigns at top level, each exactly once."""
    tree = ast.parse(source)
    for name, value in constants.items():
        assigned = [
            node
            for node in tree.body
            if isinstance(node, ast.Assign) and name in (ast.unparse(target) for target in node.targets)
        ]
        if len(assigned) != 1:
            raise ValueError(f"{name} is assigned {len(assigned)} times at top level, expected once")
        assigned[0].value = ast.copy_location(ast.parse(repr(value), mode="eval").body, assigned[0].value)
    return ast.fix_missing_locations(tree)


def run(path, constants, monkeypatch):
    """As a script; how many axes each figure had when it showed its pictures."""
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.extend(len(plt.figure(number).axes) for number in plt.get_fignums()))
    code = compile(with_constants(path.read_text(), constants), path, "exec")
    exec(code, {"__name__": "__main__", "__file__": str(path)})
    return shown
