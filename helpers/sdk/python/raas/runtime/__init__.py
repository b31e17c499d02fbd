"""The runtime side of the `handler` contract (docs/contract-handler.md): the process that runs a function.

Read `process` first: it is the life of the process in order. Nothing here is a public interface.
"""
