#!/bin/sh
# Waits for AWS's notice that this spot machine will be taken away, then drains its Ray node: no new work comes here, and
# Ray Train moves what runs here. Ends when the notice came.
set -eu
metadata=${METADATA:-http://169.254.169.254}/latest
seconds=${SECONDS_BETWEEN:-5}

notice_came() {
    token=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token") || return 1
    curl -sf -o /dev/null -H "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/spot/instance-action"
}

until notice_came; do
    sleep "$seconds"
done
echo 'this spot machine will be taken away: draining its Ray node'
exec ray drain-node --address "$RAY_ADDRESS" --reason DRAIN_NODE_REASON_PREEMPTION \
    --reason-message 'spot machine is taken away' --deadline-remaining-seconds 110
