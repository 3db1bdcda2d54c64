"""The command `tandem`: typed options, `--json` everywhere, exit code 2 and one clear line on bad input."""
