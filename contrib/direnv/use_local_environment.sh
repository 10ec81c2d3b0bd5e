# For direnv: copy it to ~/.config/direnv/lib/, and write `use local_environment` into the `.envrc` of a project.
#
# Loads the variables of the environment of this directory if it is up. direnv asks for leave first, and asks again when `.envrc`
# changes. (`use devenv` is the name that cachix/devenv has for its own.) `devenv hook` does the same without direnv.
use_local_environment() {
  local command=${DEVENV_COMMAND:-devenv}
  if ! has "$command"; then
    log_error "use local_environment: there is no program \`$command\`"
    return 1
  fi
  # Profiles and the files of environments: when they change, direnv loads again.
  watch_dir profiles 2>/dev/null || true
  local variables
  if variables=$("$command" "$@" env 2>/dev/null) && [ -n "$variables" ]; then
    eval "$variables"
  else
    log_status "no environment is up here; start it with \`$command up\`, then run \`direnv reload\`"
  fi
}
