# Sourced by the scripts that need another package to compare with, after environment.sh, with the
# folder they were called from in $caller: makes an environment of its own for each, .venv-NAME, once.
#   PEERS_ENVIRONMENTS  folder for them; by default the repository
# Sets $folder; begin_peer sets $environment and $stamp.

case ${PEERS_ENVIRONMENTS:-} in
  '') folder=$PWD ;;
  /*) folder=$PEERS_ENVIRONMENTS ;;
  *) folder=$caller/$PEERS_ENVIRONMENTS ;;
esac

# The package requires a hundred others, most of them for text, hubs and cloud storage; the extra
# [garden] has what its Mask R-CNN, its decoder and its converter import. Packages that require a
# second TensorFlow are installed without dependencies.
garden_alone=("tf-models-official==2.20.*" "tf_keras==2.20.*" "tensorflow-hub==0.16.*")

begin_peer() {  # begin_peer NAME REQUIREMENTS: true if its environment is still to be filled
  environment=$folder/.venv-$1
  stamp=$environment/peer-$(echo "$2" | cksum | cut -d' ' -f1)
  [ ! -e "$stamp" ] || return 1
  echo "installing $1 into $environment; some minutes, once" >&2
  mkdir -p "$folder" && python -m venv --clear "$environment" ||
    fail "$environment could not be made; name a folder to write to in PEERS_ENVIRONMENTS"
  echo '*' >"$environment/.gitignore"
}

into_peer() {  # into_peer ARGUMENTS: pip install
  "$environment/bin/python" -m pip install -q --disable-pip-version-check "$@" ||
    fail "pip could not install $*; see the lines above"
}

ensure_garden() {  # TensorFlow's Model Garden beside this project, on the TensorFlow it requires
  if begin_peer garden "${garden_alone[*]} $(sed -n '/^dependencies/,/^\[project.scripts/p' pyproject.toml)"; then
    into_peer -e ".[garden,test]"
    into_peer --no-deps "${garden_alone[@]}"
    touch "$stamp"
  fi
}
