#!/bin/sh
# Reviews a change to Campanile's manifests: validates them, runs the tests beside them, plans the change against BASE,
# and writes one report for a comment.
#
#     review.sh OUT PATH…
#
# OUT is a folder: report.md (for the comment), findings.json, junit.xml, plan.html. The exit code is that of what went
# worst: 0 fine, 1 an expectation does not hold or the work failed, 2 the manifests are wrong.
#
# BASE       the git revision that the change is compared with
# STORE      sqlite://PATH or postgres://…, read only; without one the plan counts nobody
# UNTRUSTED  `true` for a change by a stranger: small counts are not told, and no statement of hers is run
# STRICT     `true`: warnings fail the review, too
set -eu

out=$1
shift
campanile=${CAMPANILE:-campanile}
limit=65536 # of a GitHub comment, in characters
marker='<!-- campanile: review -->'
worst=0
mkdir -p "$out"

note() { # CODE
    if [ "$1" -gt "$worst" ]; then worst=$1; fi
}

# Once for people and once for machines. Warnings may fail the review, and do not keep a change from being planned.
strict=
if [ "${STRICT:-}" = true ]; then strict=--warnings-as-errors; fi
code=0
"$campanile" validate "$@" ${strict:+"$strict"} >"$out/findings.txt" || code=$?
note "$code"
wrong=0
"$campanile" validate "$@" --output json >"$out/findings.json" || wrong=$?
cat "$out/findings.txt"

tests=none
found=$(find "$@" \( -name '*.yaml' -o -name '*.yml' \) -exec grep -ls '^apiVersion: test\.campanile\.dev/' {} +) || true
if [ "$wrong" = 0 ] && [ -n "$found" ]; then
    code=0
    "$campanile" test "$@" --output junit >"$out/junit.xml" || code=$?
    note "$code"
    "$campanile" test "$@" >"$out/tests.txt" || true
    tests=$code
    cat "$out/tests.txt"
fi

plan=none
if [ "$wrong" = 0 ]; then
    set -- "$@" --base "$BASE"
    if [ -n "${STORE:-}" ]; then set -- "$@" --store "$STORE"; fi
    if [ "${UNTRUSTED:-}" = true ]; then set -- "$@" --untrusted; fi
    code=0
    "$campanile" plan "$@" --output markdown >"$out/plan.md" || code=$?
    note "$code"
    plan=$code
    "$campanile" plan "$@" --output html >"$out/plan.html" || true
fi

# The report is as long as a comment may be; the whole of it is in the job's files.
{
    echo "$marker"
    echo '## What this change will do'
    echo
    if [ "$plan" = 0 ]; then
        cat "$out/plan.md"
    elif [ "$plan" = none ]; then
        echo 'The manifests are wrong, so nothing can be said of it.'
    else
        echo 'The plan could not be made; see the log of the job.'
    fi
    echo
    echo '### Manifests'
    echo
    echo '```'
    cat "$out/findings.txt"
    echo '```'
    if [ "$tests" != none ]; then
        echo
        echo '### Tests'
        echo
        echo '```'
        cat "$out/tests.txt"
        echo '```'
    fi
} >"$out/whole.md"
if [ "$(wc -m <"$out/whole.md")" -gt "$limit" ]; then
    # Cut between lines; what is cut may have opened a block of code.
    awk -v limit=$((limit - 300)) '{ n += length($0) + 1; if (n > limit) exit; print; if (/^```/) open = !open }
        END { if (open) print "```" }' "$out/whole.md" >"$out/report.md"
    printf '\nThis is longer than a comment may be. The whole of it is in the files of the job.\n' >>"$out/report.md"
else
    cp "$out/whole.md" "$out/report.md"
fi
exit "$worst"
