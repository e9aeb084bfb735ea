# Sourced by reproduce_table*.sh: their options, the rows that are kept, and the table.
#
# A data set is a folder with train/, train.json, val/ and val.json (COCO format). What is made for it
# is in OUT/NAME: records/, runs/ with a run for each training, rows/ with the metrics of each row.
# The tables share runs and rows, so that the baseline is trained once for all of them.

usage() {
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
  cat <<'OPTIONS'
Options:
  --preset NAME       paper (default: ResNet-101 and the paper's schedule), shapes or nuclei: the small
                      backbone from scratch, with scales that suit these data sets
  --steps N           training steps of every run; default those of the preset
  --set KEY=VALUE     configuration of every run and evaluation; may be repeated
  --out DIR           where everything goes (default runs/reproduce)
  --members N         networks in the ensemble of Table 4 (default 6, as the paper)
  --backbones "A B"   backbones of Table 3 (default "resnet50 resnet101 resnet152")
Rows that are done are kept; the same command continues where it was interrupted.
OPTIONS
}

refuse() {
  echo "error: $*" >&2
  exit 2
}

read_options() {  # read_options ARGUMENTS...: sets all that the options name, and datasets
  preset=paper out="" members=6 backbones="resnet50 resnet101 resnet152"
  settings=() datasets=()
  local value
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) usage; exit ;;
      --preset | --steps | --set | --out | --members | --backbones)
        [ $# -ge 2 ] || refuse "$1 needs a value; see --help"
        value=$2
        case $1 in
          --preset) preset=$value ;;
          --steps) number "$1" "$value"; settings+=("train.steps=$value") ;;
          --set) settings+=("$value") ;;
          --out) out=$(realpath -m "$value") ;;
          --members) number "$1" "$value"; members=$value ;;
          --backbones) backbones=$value ;;
        esac
        shift 2 ;;
      -*) refuse "$1: no such option; see --help" ;;
      *) datasets+=("$(realpath -m "$1")"); shift ;;
    esac
  done
  [ ${#datasets[@]} -gt 0 ] || refuse "name a data set, a folder with train.json and val.json; see --help"
  case $preset in
    paper)
      config=configs/fcis_r101_coco.yaml base_backbone=resnet101
      scales="predict.scales=[0.8,0.96,1.1467,1.44,2.0,2.3333] predict.scale_side=224"
      training="data.short_sides=[480,576,688,864,1200,1400] data.crop=600 data.crop_from=864" ;;
    shapes)
      config=configs/shapes.yaml base_backbone=small
      scales="predict.scales=[1.0,1.25,1.5] predict.scale_side=48"
      training="data.scale_jitter=[0.8,1.5]" ;;
    nuclei)
      config=configs/nuclei.yaml base_backbone=small
      scales="predict.scales=[1.0,1.25,1.5] predict.scale_side=64"
      # The configuration jitters the scale; here only the row of multi-scale training does.
      settings=("data.scale_jitter=null" ${settings[@]+"${settings[@]}"})
      training="data.scale_jitter=[0.5,1.5]" ;;
    *) refuse "--preset $preset: expected paper, shapes or nuclei" ;;
  esac
  local folder split
  for folder in "${datasets[@]}"; do
    for split in train val; do
      [ -e "$folder/$split.json" ] || refuse "$folder: not a data set, it has no $split.json"
    done
  done
}

number() {
  case $2 in '' | *[!0-9]* | 0*) refuse "$1 $2: expected a number from 1" ;; esac
}

begin() {  # begin DATASET: its folder, records and list of rows
  dataset=$(basename "$1")
  work=${out:-$PWD/runs/reproduce}/$dataset
  rows=()
  mkdir -p "$work/rows" "$work/runs"
  local wanted
  wanted=$(printf '%s\n' "$preset" "$1" ${settings[@]+"${settings[@]}"})
  [ -e "$work/settings" ] || echo "$wanted" >"$work/settings"
  [ "$(cat "$work/settings")" = "$wanted" ] ||
    refuse "$work holds rows of another data set, preset or --set; name another --out"
  local split
  for split in train val; do
    if [ ! -e "$work/records/$split/report.json" ]; then
      echo "== $dataset: convert $split"
      fcis convert coco --images "$1/$split" --annotations "$1/$split.json" \
        --out "$work/records/$split"
    fi
  done
}

trained() {  # trained RUN KEY=VALUE...: train it, unless it is there
  local run=$work/runs/$1
  shift
  [ ! -e "$run/finished" ] || return 0
  echo "== $dataset: train $run"
  fcis train --config "$config" --run "$run" "data.train=$work/records/train" \
    "data.validation=$work/records/val" ${settings[@]+"${settings[@]}"} "$@"
  touch "$run/finished"
}

evaluated() {  # evaluated ROW RUN PAPER_AP PAPER_AP50 TITLE KEY=VALUE...: measure it, unless it is there
  local row=$work/rows/$1 run=$work/runs/$2
  rows+=("$(printf '%s\t%s\t%s\t%s' "$5" "$3" "$4" "$row")")
  shift 5
  [ ! -e "$row/metrics.json" ] || return 0
  echo "== $dataset: evaluate $row"
  rm -rf "$row.partial"
  local start=$SECONDS
  fcis evaluate --run "$run" --out "$row.partial" "$@"
  echo $((SECONDS - start)) >"$row.partial/seconds"
  mv "$row.partial" "$row"
}

finish() {  # finish TITLE FILE: print the table and keep it in FILE
  printf '%s\n' "${rows[@]}" | python scripts/research/reproduce/table.py "$1, $dataset" >"$work/partial"
  mv "$work/partial" "$work/$2"
  echo
  cat "$work/$2"
  echo
  echo "wrote $work/$2"
}
