#!/bin/sh
# Writes new secrets for docker-compose.yml into a folder, docker/secrets unless another is named.
# The folder is closed to everybody else on this machine (mode 700). Its files are open, because
# compose mounts each as it is, and the containers that get one run under users of their own.
set -eu
umask 022
folder=${1:-$(dirname "$0")/secrets}
if [ -e "$folder" ]; then
    echo "$folder is there already; remove it if its passwords may be lost, or name another" >&2
    exit 1
fi
mkdir -p -m 700 "$folder"
cd "$folder"

word() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
put() { printf '%s\n' "$2" >"$1"; }

superuser=$(word) owner=$(word) app=$(word) queue=$(word) key=$(word) secret=$(word)
put postgres_superuser "$superuser"
put postgres_owner "$owner"
put postgres_app "$app"
put owner_database_url "postgresql+psycopg://razor_owner:$owner@postgres:5432/razor"
put database_url "postgresql+psycopg://razor_app:$app@postgres:5432/razor"
put broker_url "redis://razor:$queue@redis:6379/0"
# Its own keys and channels, nothing that changes the server, and INFO, which says how it is set up.
put redis_acl "user default off
user razor on >$queue ~razor* ~_kombu.* ~unacked* ~*.celery.pidbox* ~celeryev* &* +@all -@admin -@dangerous +info"
put s3_credentials "[default]
aws_access_key_id = $key
aws_secret_access_key = $secret"
put s3_identities "{\"identities\": [{\"name\": \"razor\", \"credentials\":
  [{\"accessKey\": \"$key\", \"secretKey\": \"$secret\"}],
  \"actions\": [\"Admin\", \"Read\", \"Write\", \"List\"]}]}"
put grafana_admin "$(word)"
echo "secrets are in $folder; keep a copy of it off this machine"
