"""Judges any CRI image service over its socket: what it is asked, what it should answer, and why a client cares.

    cli.conformance -> run -> behaviours -> trial -> client  -> the service under test
                                                  -> supply  -> a registry of ours, or one that was given
                    -> report

Nothing here knows criimage's own server: only CRI is spoken, so that every service is judged alike.
"""
