"""Stands where ``sys.executable`` is, and asks a process that has imported everything to be this one: ``forked.py``."""

import marshal
import os
import socket
import sys

PYTHON, SOCKET = "EDGEC_ATTACK_PYTHON", "EDGEC_ATTACK_SOCKET"


def main() -> int:
    """The exit status of whoever became this process; it ends by the same signal."""
    words, variables = sys.argv[1:], dict(os.environ)
    if SOCKET not in variables or not (words[0] == "-m" or words[0].endswith(".py")):
        python = variables[PYTHON]
        os.execv(python, [python, *words])
    asked = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asked.connect("\0" + variables[SOCKET])
    socket.send_fds(asked, [marshal.dumps((words, variables, os.getcwd(), os.getpgrp()))], [0, 1, 2])
    status = int(asked.recv(16))
    if os.WIFSIGNALED(status):
        os.kill(os.getpid(), os.WTERMSIG(status))
    return os.WEXITSTATUS(status)


if __name__ == "__main__":
    sys.exit(main())
