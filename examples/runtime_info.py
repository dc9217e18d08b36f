"""Says what this process runs on, and what would slow its streams.

Prints:
    CPUs: ...
      affinity mask at start-up: ...
    OpenMP: lib...
    problems: ...
    stream 0: CPUs ..., team of ..., in place
    ...
"""

from __future__ import annotations

import corestream


def main() -> None:
    info = corestream.runtime_info()
    print("CPUs:", info["cpus"]["allowed"], "with a budget of", info["cpus"]["budget"])
    for reason in info["cpus"]["reasons"]:
        print(" ", reason)
    print("OpenMP:", info["openmp"]["kind"], info["openmp"]["path"])
    print("problems:", "; ".join(info["problems"]) or "none")

    pool = corestream.CPUPool()
    with corestream.TaskExecutor(pool, num_streams=len(pool)) as executor:
        audit = executor.audit()
        for index, stream in enumerate(executor.streams):
            threads = [thread for thread in audit.threads if thread.stream == index]
            is_placed = all(thread.actual == thread.planned for thread in threads)
            print(
                f"stream {index}: CPUs {corestream.CPUSet(stream.core_ids)}, "
                f"team of {stream.team_size}, {'in place' if is_placed else 'moved'}"
            )
        print("OpenMP threads beside the streams:", audit.openmp.others)
        print("audit:", "; ".join(audit.problems) or "nothing to report")


if __name__ == "__main__":
    main()
