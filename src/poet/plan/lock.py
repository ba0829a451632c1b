"""Look up what the hub has to deliver, before the run: `make lock`."""

from __future__ import annotations

import argparse
import sys

from poet import config as poet_config
from poet import local_inputs
from poet.config_shortcuts import add_flag
from poet.files import cli
from poet.hub import lock, wanted


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configfile", required=True, help="its key `lock` names the file")
    add_flag(parser)
    args = parser.parse_args(argv)
    config = poet_config.read(args.configfile, **dict(args.config))
    local_inputs.check(config, args.configfile)
    entries = wanted.renew(config)
    lock.write(entries, config["lock"])
    print(f"{config['lock']}: {len(entries)} repositories", file=sys.stderr)


if __name__ == "__main__":
    cli(main)
