#!/usr/bin/env python3
"""Proves that no operation of the agent escapes the crash points.

    check-wrapped.py --list crash-point.c          the names that crash-point.c takes the place of, one a line
    check-wrapped.py crash-point.c PROGRAM...      fails if one of the programs uses a function of libc's that may change a
                                                   file, or one of sd-bus's that may send a message, which is not among them
"""

import re
import subprocess
import sys

# what looks like a change of files; of all functions that a program takes from libc
SUSPICIOUS = re.compile(r"open|creat|write|put|trunc|alloc|rename|unlink|rmdir|remove|mkdir|mknod|mkfifo|mk[sdo]|tmp|temp|link|"
                        r"sync|chmod|chown|utim|xattr|copy|send|splice|tee|ioctl|mmap|syscall|socket|bind|mount|swap")
HARMLESS_LIBC = re.compile(
    r"malloc|calloc|realloc(array)?|free|"                              # memory
    r"readlink(at)?|getopt_long|memfd_create|"                          # read only, or no file on a disk
    r"open_memstream|f?puts|fputc|fwrite|putchar|stdout|stderr|"        # streams in memory and the three standard ones
    r"fdopendir|opendir|pthread_create|"
    r"ioctl|"                                                           # crash-point.c looks which
    r"socket(pair)?|send(msg|to)?|setsockopt|prctl|"                    # messages to other processes, the bus's are below
    r"malloc_trim|mallopt|strcpy|stpn?cpy|mem(p)?cpy|__(mem|str|stp)n?cpy_chk")
HARMLESS_BUS = re.compile(
    r"sd_bus_(message_(append|read|enter|exit|open|close|skip|get|set|ref|unref|new|is|at_end|peek|has|rewind|copy)\w*|"
    r"slot_\w+|error_\w+|path_\w+|interface_name_is_valid|ref|unref|new|open\w*|start|close\w*|flush_close\w*|attach_event|"
    r"detach_event|add_object\w*|add_filter|enqueue_for_read|add_fallback\w*|add_node_enumerator|object_vtable_format|set_\w+|get_unique_name|"
    r"get_event|get_bus_id|get_fd|get_n_queued_\w+|is_\w+|wait|process|creds_\w+)")


def wrapped(source):
    """The names in WRAP(type, name, ...)."""
    with open(source, encoding="utf-8") as file:
        return re.findall(r"^WRAP\([^,]+,\s*(\w+),", file.read(), re.M)


def imported(program):
    """(name, version) of what the program takes from shared libraries."""
    output = subprocess.run(["nm", "--dynamic", "--undefined-only", program], check=True, capture_output=True, text=True).stdout
    return re.findall(r"^\s+U (\w+)@{1,2}(\w+)", output, re.M)


def is_point(name, version):
    if version.startswith("GLIBC"):
        return bool(SUSPICIOUS.search(name)) and not HARMLESS_LIBC.fullmatch(name)
    if version.startswith("LIBSYSTEMD"):
        return name.startswith("sd_bus_") and not HARMLESS_BUS.fullmatch(name)
    return False


def main(args):
    if args[0] == "--list":
        print("\n".join(wrapped(args[1])))
        return 0
    known, escaped, n_points = set(wrapped(args[0])), set(), set()
    for program in args[1:]:
        symbols = imported(program)
        if not any(version.startswith("GLIBC") for _, version in symbols):
            print(f"{program}: no function of libc's found")
            return 1
        points = {name for name, version in symbols if is_point(name, version)}
        n_points |= points
        escaped |= {f"{program}: {name}" for name in points - known}
    for line in sorted(escaped):
        print(f"{line} is no crash point: wrap it in crash-point.c, or say in check-wrapped.py why it changes nothing")
    print(f"{len(n_points)} functions are crash points: {' '.join(sorted(n_points))}")
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
