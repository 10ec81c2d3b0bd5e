from devenv_fixtures import *  # noqa: F403
