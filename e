invalid argument "a" for "--blkio-weight" flag: strconv.ParseUint: parsing "a": invalid syntax

Usage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]

Run 'docker run --help' for more information
